"""The cluster under test: the embedded one, or with CLUSTER=current the one that kubectl points at."""

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster_setup.target import Target
from embedded_cluster.cluster import Cluster
from embedded_cluster.kubectl import Kubectl

# These look into the processes of the embedded cluster, which no other has.
collect_ignore = ["test_embedded_cluster.py"] if os.environ.get("CLUSTER") == "current" else []


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubectl]:
    """``kubectl`` of the cluster under test.

    The embedded cluster is started when it does not run, and only then stopped at the end.
    """
    target = Target.from_environment()
    if not target.embedded:
        yield target.kubectl
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
