"""What of the cluster is still on the host; after ``down`` it must be nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from embedded_cluster import network
from embedded_cluster.command import run
from embedded_cluster.mounts import mounts_below
from embedded_cluster.node_config import containerd_root, containerd_socket
from embedded_cluster.state import State


def leftovers(state: State) -> list[str]:
    """A line for each container process, mount, bridge and packet filter rule."""
    bridge = [f"bridge {network.BRIDGE}"] if network.exists() else []
    processes = (f"process {pid} ({_content(Path(f'/proc/{pid}/comm')).decode().strip()})" for pid in _processes(state))
    return [*processes, *(f"mount {path}" for path in mounts_below(state.run)), *bridge, *_rules()]


def end_forgotten(state: State) -> None:
    """Ends containers' processes once no containerd runs: one that is killed while a sandbox ends forgets its shim."""
    for pid in _processes(state):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes(state: State) -> Iterator[int]:
    """Of containers: a shim is known by the socket that it was given, others by the snapshot that is their root."""
    marks = (("cmdline", str(containerd_socket(state))), ("mountinfo", f"={containerd_root(state)}/"))
    for process in Path("/proc").glob("[0-9]*"):
        if any(mark.encode() in _content(process / file) for file, mark in marks):
            yield int(process.name)


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
