"""What the cluster changes on the host outside its own folder, recorded first so that it can be put back."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from embedded_cluster.state import State

# Pods reach each other through Services by forwarding; kubelet and containerd watch many files.
SYSCTLS = {"net/ipv4/ip_forward": 1, "fs/inotify/max_user_instances": 8192}
# Paths that kubelet, containerd and its network plugins fix at compile time.
FOLDERS = ("/var/lib/kubelet", "/var/log/containers", "/run/containerd", "/var/lib/cni")


@dataclass(frozen=True)
class HostChanges:
    """``sysctls``: name → value before the change; ``folders``: those that did not exist before."""

    sysctls: dict[str, int]
    folders: list[str]

    @classmethod
    def now(cls) -> Self:
        too_low = {name: _sysctl(name) for name, least in SYSCTLS.items() if _sysctl(name) < least}
        return cls(too_low, [folder for folder in FOLDERS if not Path(folder).exists()])


def prepare(state: State) -> None:
    """Records how the host is, once, and changes it."""
    record = _record(state)
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        part = record.with_suffix(".part")
        part.write_text(json.dumps(asdict(HostChanges.now())))
        part.rename(record)
    for name, least in SYSCTLS.items():
        if _sysctl(name) < least:
            _sysctl_path(name).write_text(str(least))


def restore(state: State) -> None:
    """Puts back what ``prepare`` recorded; without a record there is nothing to do."""
    record = _record(state)
    if not record.exists():
        return
    changes = HostChanges(**json.loads(record.read_text()))
    for name, value in changes.sysctls.items():
        _sysctl_path(name).write_text(str(value))
    for folder in changes.folders:
        shutil.rmtree(folder, ignore_errors=True)
    record.unlink()


def _record(state: State) -> Path:
    return state.run / "host.json"


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys", name)


def _sysctl(name: str) -> int:
    return int(_sysctl_path(name).read_text())
