"""The embedded cluster does what a cluster does, and stays within what is its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedded_cluster import network
from embedded_cluster.builder import find_builder
from embedded_cluster.cluster import Cluster
from embedded_cluster.control_plane import temporary_control_plane
from embedded_cluster.image_builds import Images
from embedded_cluster.image_content import BASE
from embedded_cluster.kubectl import Kubectl
from embedded_cluster.leftovers import leftovers
from embedded_cluster.ports import accepts_connections
from embedded_cluster.process import wait_until

POD_SECONDS = 60
RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
ASK_API_SERVER = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
token = open(f"{folder}/token").read()
request = urllib.request.Request("https://kubernetes.default.svc/openid/v1/jwks")
request.add_header("Authorization", f"Bearer {token}")
print(urllib.request.urlopen(request, context=context).read().decode())
"""


@pytest.fixture(scope="session")
def embedded(cluster: Kubectl) -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def image(embedded: Cluster) -> str:
    return Images(state=embedded.state, builder=find_builder(embedded.state)).push(BASE)


@pytest.fixture
def python_pod(cluster: Kubectl, namespace: str, image: str) -> Callable[..., str]:
    """Starts a restricted pod that runs Python code; returns its name."""

    def start(code: str, *, name: str = "python", **container: object) -> str:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": _pod_spec(image, code, **container),
        }
        cluster.apply([pod])
        return name

    return start


def _pod_spec(image: str, code: str, **container: object) -> dict[str, object]:
    command = ["python3", "-u", "-c", code]
    main = {"name": "main", "image": image, "command": command, "securityContext": RESTRICTED_CONTAINER}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": RESTRICTED_POD,
        "containers": [main | container],
    }


def _end_of(cluster: Kubectl, namespace: str, pod: str) -> dict[str, Any]:
    """``state.terminated`` of the pod's container, once it is there."""
    path = "jsonpath={.status.containerStatuses[0].state.terminated}"

    def state() -> str:
        return cluster("-n", namespace, "get", "pod", pod, "-o", path)

    wait_until(lambda: bool(state()), POD_SECONDS, f"end of the pod {pod}")
    terminated: dict[str, Any] = json.loads(state())
    return terminated


def _wait_ready(cluster: Kubectl, namespace: str, pod: str) -> None:
    cluster("-n", namespace, "wait", "--for=condition=Ready", f"pod/{pod}", f"--timeout={POD_SECONDS}s")


def test_a_job_of_a_restricted_pod_completes(cluster: Kubectl, namespace: str, image: str) -> None:
    template = {"spec": _pod_spec(image, "print('done')")}
    spec = {"backoffLimit": 0, "template": template}
    cluster.apply(
        [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": namespace}, "spec": spec}]
    )
    cluster("-n", namespace, "wait", "--for=condition=Complete", "job/j", f"--timeout={POD_SECONDS}s")
    assert cluster("-n", namespace, "logs", "job/j") == "done\n"


def test_a_termination_message_reaches_the_pods_status(
    cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    pod = python_pod("open('/dev/termination-log', 'w').write('learned'); raise SystemExit(3)")
    end = _end_of(cluster, namespace, pod)
    assert (end["exitCode"], end["message"]) == (3, "learned")


def test_a_pod_reaches_the_api_server_by_name_over_verified_tls(
    cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    pod = python_pod(ASK_API_SERVER)
    assert _end_of(cluster, namespace, pod)["exitCode"] == 0, cluster("-n", namespace, "logs", pod)
    assert json.loads(cluster("-n", namespace, "logs", pod))["keys"][0]["alg"] == "RS256"


def test_a_service_leads_to_its_pod_from_another_pod_and_from_the_pod_itself(
    cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    server = python_pod("import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)", name="server")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": server}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.apply([service])
    get = "import urllib.request as u; print(u.urlopen('http://web').status)"
    _wait_ready(cluster, namespace, server)
    address = cluster("-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    wait_until(lambda: accepts_connections((address, 80)), POD_SECONDS, "the Service's rules")
    client = python_pod(get, name="client")
    assert _end_of(cluster, namespace, client)["exitCode"] == 0, cluster("-n", namespace, "logs", client)
    assert cluster("-n", namespace, "exec", server, "--", "python3", "-c", get) == "200\n"


def test_exec_runs_as_the_pods_user_and_logs_follow_its_output(
    cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    pod = python_pod("import time; print('started'); time.sleep(600)")
    _wait_ready(cluster, namespace, pod)
    assert cluster("-n", namespace, "exec", pod, "--", "id", "-u") == "65532\n"
    wait_until(lambda: cluster("-n", namespace, "logs", pod) == "started\n", POD_SECONDS, "the pod's log")


def test_a_pod_over_its_memory_limit_is_reported_as_oom_killed(
    cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    pod = python_pod("b'x' * (256 << 20)", resources={"limits": {"memory": "32Mi"}})
    end = _end_of(cluster, namespace, pod)
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)


def test_a_privileged_pod_is_refused_where_the_namespace_is_restricted(
    cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    with pytest.raises(Exception, match="violates PodSecurity"):
        python_pod("pass", securityContext={"privileged": True})


def test_what_a_pod_writes_to_a_host_path_stays_on_the_host(
    cluster: Kubectl, namespace: str, image: str, tmp_path: Path
) -> None:
    cluster("label", "--overwrite", "namespace", namespace, "pod-security.kubernetes.io/enforce=privileged")
    spec = _pod_spec(image, "open('/data/adapter', 'w').write('weights')")
    spec["securityContext"] = {"runAsUser": 0}
    spec["volumes"] = [{"name": "data", "hostPath": {"path": str(tmp_path)}}]
    containers: Any = spec["containers"]
    containers[0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    cluster.apply(
        [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "w", "namespace": namespace}, "spec": spec}]
    )
    assert _end_of(cluster, namespace, "w")["exitCode"] == 0
    assert (tmp_path / "adapter").read_text() == "weights"


def test_up_on_a_running_cluster_starts_nothing(embedded: Cluster) -> None:
    before = [daemon.pid for daemon in embedded.daemons()]
    lines: list[str] = []
    assert Cluster(embedded.state, lines.append).up() is False
    assert lines == ["the cluster is up already"]
    assert [daemon.pid for daemon in embedded.daemons()] == before


def test_up_repairs_killed_components_while_pods_live_on(
    embedded: Cluster, cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    pod = python_pod("import time; time.sleep(600)")
    _wait_ready(cluster, namespace, pod)
    killed = [embedded.node.containerd(), embedded.node.kubelet(), *embedded.plane.daemons()]
    for daemon in killed:
        assert daemon.pid
        os.kill(daemon.pid, signal.SIGKILL)
    wait_until(lambda: not any(daemon.pid for daemon in killed), POD_SECONDS, "the end of all that was killed")
    assert embedded.up() is True
    assert cluster("-n", namespace, "exec", pod, "--", "true") == ""


def test_nothing_listens_where_another_machine_could_reach_it(embedded: Cluster) -> None:
    pids = {f"pid={daemon.pid}," for daemon in embedded.daemons()}
    listing = subprocess.run(["ss", "-Hltnup"], capture_output=True, text=True, check=True).stdout
    own = [line.split()[4].rpartition(":")[0] for line in listing.splitlines() if any(pid in line for pid in pids)]
    assert len(own) > len(pids)
    assert set(own) == {"127.0.0.1", network.NODE_ADDRESS}


def test_what_down_must_remove_is_found_on_a_running_cluster(
    embedded: Cluster, cluster: Kubectl, namespace: str, python_pod: Callable[..., str]
) -> None:
    """Or else the check that ``down`` ends with would prove nothing."""
    _wait_ready(cluster, namespace, python_pod("import time; time.sleep(600)"))
    found = "\n".join(leftovers(embedded.state))
    for kind in ("(python3)", "(pause)", "(containerd-shim)", "mount ", "bridge ftbr0", "ip6tables ", "-j MASQUERADE"):
        assert kind in found


def test_status_lists_every_component_and_exits_0_when_all_run(embedded: Cluster) -> None:
    command = [sys.executable, "-m", "embedded_cluster", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [daemon.name for daemon in embedded.daemons()]
    assert done.stdout.count("runs, pid") == len(embedded.daemons())


def test_a_control_plane_for_api_tests_runs_beside_the_cluster_and_ends_with_its_block(cluster: Kubectl) -> None:
    with temporary_control_plane() as plane:
        assert plane.kubeconfig != cluster.kubeconfig
        assert plane.kubeconfig.stat().st_mode & 0o777 == 0o600
        assert plane.kubectl("get", "nodes", "-o", "name") == ""
        pids = [daemon.pid for daemon in plane.daemons()]
    assert all(pids)
    assert not accepts_connections((plane.address, plane.ports.apiserver))
    assert not plane.state.root.exists()


def test_a_control_plane_comes_back_with_its_data_after_a_stop() -> None:
    with temporary_control_plane() as plane:
        plane.kubectl("create", "namespace", "kept")
        plane.stop()
        plane.start()
        assert plane.kubectl("get", "namespace", "kept", "-o", "name") == "namespace/kept\n"
