"""The cluster under test: the embedded one, or with CLUSTER=current the one that kubectl points at."""

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster_setup.install import CLAIM, DEMO_NAMESPACE, install
from cluster_setup.jobs import CONVERSATIONS, ROWS, Jobs
from cluster_setup.load import ClaimFiles, claim_files
from cluster_setup.target import Target
from cluster_setup.volumes import remove_volumes
from embedded_cluster.cluster import Cluster
from embedded_cluster.kubectl import Kubectl

# These look into the processes of the embedded cluster, which no other has.
collect_ignore = (
    ["test_embedded_cluster.py", "test_image_registry.py"] if os.environ.get("CLUSTER") == "current" else []
)


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


@pytest.fixture(scope="session")
def target(cluster: Kubectl) -> Target:
    """The cluster with the project installed in it."""
    target = Target.from_environment()
    install(target)
    return target


@pytest.fixture(scope="session")
def files(target: Target) -> Iterator[ClaimFiles]:
    """The claim, with models and rows on it."""
    image = target.images()["finetune-trainer"]
    with claim_files(target.kubectl, DEMO_NAMESPACE, CLAIM, image) as files:
        for name in ("tiny", "smollm2"):
            files.copy_in(target.state.cache / "models" / name, name)
        for rows in (ROWS, CONVERSATIONS):
            files.copy_in(rows, rows.name)
        yield files


@pytest.fixture(scope="session")
def jobs(target: Target, files: ClaimFiles) -> Iterator[Jobs]:
    """The jobs of the demo's namespace; those of an earlier run are deleted first, and those of this run last.

    So are their artefacts: a job that found an identical one's would take them, and run nothing.
    """
    kubectl = target.kubectl
    kubectl("-n", DEMO_NAMESPACE, "delete", "finetunejobs", "--all", "--wait=true", "--cascade=foreground")
    remove_volumes(kubectl, DEMO_NAMESPACE)
    files.remove("runs")
    yield Jobs(kubectl, DEMO_NAMESPACE)
    kubectl("-n", DEMO_NAMESPACE, "delete", "finetunejobs", "--all", "--wait=true")
