"""The node: containerd and kubelet, and an end for every container and mount that they leave."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster import network, node_config
from embedded_cluster.command import run, succeeds
from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.leftovers import end_forgotten
from embedded_cluster.mounts import unmount_below
from embedded_cluster.pki import Identity
from embedded_cluster.ports import accepts_connections
from embedded_cluster.process import Daemon, wait_until
from embedded_cluster.state import State

READY_SECONDS = 60
STOP_SECONDS = 20
IDENTITY = Identity(
    name="kubelet",
    user=f"system:node:{node_config.NODE_NAME}",
    groups=["system:nodes"],
    hosts=[node_config.NODE_NAME, network.NODE_ADDRESS],
)
READY_PATH = '{.items[*].status.conditions[?(@.type=="Ready")].status}'


@dataclass(frozen=True)
class Node:
    """The machine as the cluster's one node; images are pulled from the local registry."""

    plane: ControlPlane

    @property
    def state(self) -> State:
        return self.plane.state

    def containerd(self) -> Daemon:
        return self._daemon("containerd", "containerd", "--config", str(self.state.run / "containerd.toml"))

    def kubelet(self) -> Daemon:
        return self._daemon(
            "kubelet",
            str(self.plane.binaries["kubelet"]),
            f"--config={self.state.run / 'kubelet.yaml'}",
            f"--kubeconfig={self.plane.kubeconfig_of(IDENTITY.name)}",
            f"--root-dir={self.state.run / 'kubelet'}",
            f"--hostname-override={node_config.NODE_NAME}",
            f"--node-ip={network.NODE_ADDRESS}",
        )

    def start_containerd(self) -> None:
        """Starts containerd if it does not run, and waits until it answers."""
        self._write("containerd.toml", node_config.containerd(self.state))
        self._write("cni/10-embedded.conflist", node_config.cni(self.state))
        daemon = self.containerd()
        daemon.start()
        daemon.wait_until_ready(lambda: succeeds(*self._ctr("version")), READY_SECONDS)

    def start_kubelet(self) -> None:
        """Starts kubelet if it does not run, and waits until the node is Ready, takes pods and knows those it has.

        containerd answers before its runtime service has found the containers of an earlier life; that service opens
        its streaming port last. kubelet asks it once and ends when it gets no answer.
        """
        stream = (node_config.LOOPBACK, node_config.CRI_STREAM_PORT)
        self.containerd().wait_until_ready(lambda: accepts_connections(stream), READY_SECONDS)
        self._write("kubelet.yaml", node_config.kubelet(self.state, self.plane.pki))
        daemon = self.kubelet()
        daemon.start()
        daemon.wait_until_ready(self._takes_pods, READY_SECONDS)

    def stop(self) -> None:
        """Stops kubelet, every container, containerd, and unmounts what they mounted."""
        self.kubelet().stop()
        if (self.state.run / "containerd.toml").exists():
            # Containers outlive containerd, and after a crash only a running containerd knows of them.
            self.start_containerd()
            self._remove_containers()
            self.containerd().stop()
        end_forgotten(self.state)
        unmount_below(self.state.run)
        shutil.rmtree(node_config.pod_logs(self.state), ignore_errors=True)
        _remove_empty_cgroups()

    def _takes_pods(self) -> bool:
        kubectl = self.plane.kubectl
        ready = kubectl.run("get", "nodes", "-o", f"jsonpath={READY_PATH}").stdout == "True"
        return ready and kubectl.run("get", "serviceaccount", "default").returncode == 0 and self._knows_its_pods()

    def _knows_its_pods(self) -> bool:
        """The node's Ready may be the word of the kubelet before this one, which a new kubelet can't keep at once."""
        on_node = f"--field-selector=spec.nodeName={node_config.NODE_NAME}"
        bound = self._uids("get", "pods", "--all-namespaces", "--output=json", on_node)
        known = self._uids("get", "--raw", f"/api/v1/nodes/{node_config.NODE_NAME}/proxy/pods")
        return bound is not None and known is not None and bound <= known

    def _uids(self, *request: str) -> set[str] | None:
        done = self.plane.kubectl.run(*request)
        if done.returncode:
            return None
        return {pod["metadata"]["uid"] for pod in json.loads(done.stdout)["items"] or ()}

    def _remove_containers(self) -> None:
        for task in self._listed("tasks"):
            succeeds(*self._ctr("tasks", "kill", "--signal", "SIGKILL", "--all", task))
        wait_until(self._no_task_left, STOP_SECONDS, "the end of all containers")
        for container in self._listed("containers"):
            run(*self._ctr("containers", "delete", container))

    def _no_task_left(self) -> bool:
        return all(succeeds(*self._ctr("tasks", "delete", "--force", task)) for task in self._listed("tasks"))

    def _listed(self, kind: str) -> list[str]:
        return run(*self._ctr(kind, "list", "--quiet")).split()

    def _ctr(self, *arguments: str) -> tuple[str, ...]:
        return ("ctr", "--address", str(node_config.containerd_socket(self.state)), "--namespace", "k8s.io", *arguments)

    def _write(self, name: str, text: str) -> None:
        path = self.state.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _daemon(self, name: str, *command: str) -> Daemon:
        return Daemon(name=name, command=command, run_dir=self.state.run, log_dir=self.state.log)


def _remove_empty_cgroups() -> None:
    """Removes the cgroups that kubelet makes for pods; the kernel refuses to remove one that has processes."""
    groups = Path("/sys/fs/cgroup")
    for root in [*groups.glob("kubepods"), *groups.glob("*/kubepods")]:
        for folder, _, _ in os.walk(root, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
