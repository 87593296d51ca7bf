"""What the embedded cluster says when the machine lacks something."""

import re

import pytest

from embedded_cluster import preflight
from embedded_cluster.errors import ClusterError

ALL_CAPABILITIES = 0x1FFFFFFFFFF
CGROUPS = """#subsys_name\thierarchy\tnum_cgroups\tenabled
cpuset\t4\t1\t1
cpu\t2\t1\t1
memory\t5\t1\t1
pids\t9\t1\t1
"""


def _status(capabilities: int) -> str:
    return f"Name:\tpython\nCapPrm:\t{ALL_CAPABILITIES:016x}\nCapEff:\t{capabilities:016x}\n"


def test_another_user_than_root_is_told_what_to_do() -> None:
    preflight.require_root(0)
    with pytest.raises(ClusterError, match="needs root: use sudo, or CLUSTER=current"):
        preflight.require_root(1000)


def test_a_missing_capability_is_named_with_its_use() -> None:
    preflight.require_capabilities(_status(ALL_CAPABILITIES))
    with pytest.raises(ClusterError, match=r"root lacks CAP_NET_ADMIN to make the pods' network: .* run it privileged"):
        preflight.require_capabilities(_status(ALL_CAPABILITIES & ~(1 << 12)))


def test_a_capability_that_the_cluster_does_without_is_not_asked_for() -> None:
    cap_sys_resource = 24
    preflight.require_capabilities(_status(ALL_CAPABILITIES & ~(1 << cap_sys_resource)))


@pytest.mark.parametrize("cgroups", [CGROUPS.replace("memory\t5\t1\t1\n", ""), CGROUPS.replace("5\t1\t1", "0\t1\t0")])
def test_a_cgroup_controller_that_is_absent_or_off_is_named(cgroups: str) -> None:
    preflight.require_cgroup_controllers(CGROUPS)
    with pytest.raises(ClusterError, match="no cgroup controller memory:"):
        preflight.require_cgroup_controllers(cgroups)


def test_missing_packages_are_named_as_a_command_that_installs_them() -> None:
    preflight.require_packages(["runc"], {"runc", "bash"})
    line = re.escape("apt-get install -y --no-install-recommends containerd runc")
    with pytest.raises(ClusterError, match=f"{line}$"):
        preflight.require_packages(["containerd", "iptables", "runc"], {"iptables"})


def test_the_list_of_packages_is_sorted_and_has_no_duplicates() -> None:
    packages = preflight.required_packages(preflight.PACKAGES_FILE.read_text())
    assert "containerd" in packages
    assert packages == sorted(set(packages))
