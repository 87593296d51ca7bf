"""A real API server for every test in this folder, with the CRD installed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_cluster.control_plane import ControlPlane, temporary_control_plane
from embedded_cluster.process import wait_until

CRDS = Path(__file__).parents[2] / "crds"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and the controllers (Jobs make pods, garbage is collected), the CRD served; no node."""
    with temporary_control_plane(controllers=True) as plane:
        plane.kubectl("apply", "-k", str(CRDS))
        wait_until(lambda: plane.kubectl.run("get", "ftj").returncode == 0, 30, "the API of FineTuneJob")
        yield plane


@pytest.fixture
def namespace(apiserver: ControlPlane) -> str:
    """A namespace of this test's own."""
    name = f"test-{next(_numbers)}"
    apiserver.kubectl("create", "namespace", name)
    return name
