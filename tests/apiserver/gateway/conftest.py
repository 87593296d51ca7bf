"""One gateway, with the rights of its manifests, for every test in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.process import wait_until
from gateway_process import SYSTEM, Gateway, running_gateway, save_authority
from gateway_runs import SECONDS, Run

MANIFESTS = Path(__file__).parents[3] / "manifests/base"


@pytest.fixture(scope="session")
def gateway_kubeconfig(apiserver: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway's own service account, with the roles and the empty objects of the manifests."""
    kubectl = apiserver.kubectl
    deployed = [*yaml.safe_load_all((MANIFESTS / "gateway.yaml").read_text())]
    kubectl("apply", "-f", str(MANIFESTS / "namespace.yaml"), "-f", str(MANIFESTS / "gateway-rbac.yaml"))
    kubectl.apply([each for each in deployed if each["kind"] in ("Secret", "ConfigMap")])
    token = kubectl("-n", SYSTEM, "create", "token", "finetune-gateway", "--duration=2h").strip()
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = tmp_path_factory.mktemp("gateway") / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return kubeconfig


@pytest.fixture(scope="session")
def gateway(apiserver: ControlPlane, gateway_kubeconfig: Path) -> Iterator[Gateway]:
    """One gateway for the tests of this file."""
    with running_gateway(gateway_kubeconfig, gateway_kubeconfig.parent) as running:
        save_authority(apiserver, running.authority)
        yield running


@pytest.fixture
def run(apiserver: ControlPlane, namespace: str) -> Run:
    """A FineTuneJob that nobody has looked at yet."""
    accounts = ("-n", namespace, "get", "serviceaccount", "default")
    wait_until(lambda: apiserver.kubectl.run(*accounts).returncode == 0, SECONDS, "the default service account")
    return Run.create(apiserver, namespace)
