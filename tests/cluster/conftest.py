"""The cluster that the end-to-end tests run against: the embedded one, or the one of ``KUBECONFIG_UNDER_TEST``."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from embedded_cluster.cluster import Cluster
from embedded_cluster.errors import ClusterError
from embedded_cluster.kubectl import Kubectl

OTHER_KUBECONFIG = os.environ.get("KUBECONFIG_UNDER_TEST")

# These look into the processes of the embedded cluster, which no other has.
collect_ignore = ["test_embedded_cluster.py"] if OTHER_KUBECONFIG else []


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubectl]:
    """``kubectl`` of the cluster under test.

    The embedded cluster is started when it does not run, and only then stopped at the end.
    """
    if OTHER_KUBECONFIG:
        yield _kubectl_of(Path(OTHER_KUBECONFIG))
        return
    embedded = Cluster()
    started = embedded.up()
    yield embedded.kubectl
    if started:
        embedded.down()


@pytest.fixture
def namespace(cluster: Kubectl) -> Iterator[str]:
    """A new namespace that takes restricted pods only, deleted after the test without waiting for it."""
    name = f"test-{uuid4().hex[:8]}"
    cluster("create", "namespace", name)
    cluster("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster("delete", "namespace", name, "--wait=false")


def _kubectl_of(kubeconfig: Path) -> Kubectl:
    binary = shutil.which("kubectl")
    if binary is None:
        raise ClusterError("kubectl is not on the PATH: the cluster of KUBECONFIG_UNDER_TEST is reached through it")
    return Kubectl(Path(binary), kubeconfig)
