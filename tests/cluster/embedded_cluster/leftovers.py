"""What of the cluster is still on the host; after ``down`` it must be nothing."""

from collections.abc import Iterator
from pathlib import Path

from embedded_cluster import network
from embedded_cluster.command import run
from embedded_cluster.mounts import mounts_below
from embedded_cluster.node_config import containerd_root, containerd_socket
from embedded_cluster.state import State


def leftovers(state: State) -> list[str]:
    """A line for each container process, mount, bridge and packet filter rule."""
    bridge = [f"bridge {network.BRIDGE}"] if network.exists() else []
    return [*_processes(state), *(f"mount {path}" for path in mounts_below(state.run)), *bridge, *_rules()]


def _processes(state: State) -> Iterator[str]:
    """A shim is known by the socket that it was given, a container's process by the snapshot that is its root."""
    marks = (("cmdline", str(containerd_socket(state))), ("mountinfo", f"={containerd_root(state)}/"))
    for process in Path("/proc").glob("[0-9]*"):
        if any(mark.encode() in _content(process / file) for file, mark in marks):
            yield f"process {process.name} ({_content(process / 'comm').decode().strip()})"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _rules() -> Iterator[str]:
    for tool in ("iptables", "ip6tables"):
        for line in run(f"{tool}-save").splitlines():
            if "KUBE-" in line or network.RULE_COMMENT in line:
                yield f"{tool} {line}"
