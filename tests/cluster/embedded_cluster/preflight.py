"""Checks before anything starts, so that what is missing is said in one line."""

import subprocess
from pathlib import Path

from embedded_cluster.errors import ClusterError

PACKAGES_FILE = Path(__file__).resolve().parent.parent / "packages.txt"
# Bits of the kernel's capability sets, see capabilities(7), and what breaks without them.
CAPABILITIES = {
    "CAP_NET_ADMIN": (12, "make the pods' network"),
    "CAP_SYS_ADMIN": (21, "mount file systems and make namespaces"),
    "CAP_SYS_CHROOT": (18, "enter a container's root"),
    "CAP_MKNOD": (27, "make a container's devices"),
}
CGROUP_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def check() -> None:
    """Checks capabilities, cgroup controllers and Debian packages.

    Raises:
        ClusterError: one of them is missing; says what to do.
    """
    require_capabilities(Path("/proc/self/status").read_text())
    require_cgroup_controllers(Path("/proc/cgroups").read_text())
    require_packages(required_packages(PACKAGES_FILE.read_text()), installed_packages())


def require_root(user: int) -> None:
    if user != 0:
        raise ClusterError("the embedded cluster runs containers and needs root: use sudo, or CLUSTER=current")


def require_capabilities(status: str) -> None:
    """``status`` as in proc(5) ``status``."""
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    missing = {name: use for name, (bit, use) in CAPABILITIES.items() if not effective >> bit & 1}
    if missing:
        uses = ", ".join(f"{name} to {use}" for name, use in missing.items())
        raise ClusterError(f"root lacks {uses}: if this is a container, run it privileged")


def require_cgroup_controllers(cgroups: str) -> None:
    """``cgroups`` as in proc(5) ``cgroups``: name, hierarchy, number of groups, enabled."""
    rows = [line.split() for line in cgroups.splitlines() if not line.startswith("#")]
    enabled = {row[0] for row in rows if row[3] == "1"}
    missing = [name for name in CGROUP_CONTROLLERS if name not in enabled]
    if missing:
        raise ClusterError(f"the kernel has no cgroup controller {', '.join(missing)}: enable it on its command line")


def required_packages(listing: str) -> list[str]:
    return [line.strip() for line in listing.splitlines() if line.strip() and not line.startswith("#")]


def require_packages(required: list[str], installed: set[str]) -> None:
    missing = [name for name in required if name not in installed]
    if missing:
        raise ClusterError(
            f"Debian packages are missing: apt-get install -y --no-install-recommends {' '.join(missing)}"
        )


def installed_packages() -> set[str]:
    """Names of Debian's installed packages.

    Raises:
        ClusterError: this is no Debian.
    """
    try:
        query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n"]
        listing = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise ClusterError(
            "the embedded cluster needs Debian (dpkg-query was not found): use CLUSTER=current"
        ) from error
    return {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
