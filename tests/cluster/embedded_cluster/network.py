"""The pods' network on the host: a bridge that carries the node's address, and the rules that let packets through.

The node's address is the bridge's, so it is the same on every machine, is there without any network, and nothing of
the cluster listens where another machine could reach it.
"""

from pathlib import Path

from embedded_cluster.command import run, succeeds
from embedded_cluster.errors import ClusterError

BRIDGE = "ftbr0"
NODE_ADDRESS = "10.97.0.1"
POD_CIDR = "10.97.0.0/16"
RULE_COMMENT = "finetune-embedded"
# Table, chain, match and target. A host with a firewall, or with Docker, drops what it forwards unless told otherwise.
RULES = (
    ("nat", "POSTROUTING", f"-s {POD_CIDR} ! -d {POD_CIDR}", "MASQUERADE"),
    ("filter", "FORWARD", f"-i {BRIDGE}", "ACCEPT"),
    ("filter", "FORWARD", f"-o {BRIDGE}", "ACCEPT"),
    ("filter", "INPUT", f"-i {BRIDGE} -d {NODE_ADDRESS}", "ACCEPT"),
)
NETFILTER = Path("/proc/sys/net/bridge")


def exists() -> bool:
    return Path("/sys/class/net", BRIDGE).exists()


def up() -> None:
    """Makes the bridge and the rules where they are missing.

    Raises:
        ClusterError: the kernel lacks bridges or their netfilter hook.
    """
    if not exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    # A pod's answer to a Service's client on the same bridge must pass netfilter, or its address is not put back.
    # Without the module the bridge takes the setting, too, and does nothing.
    if not NETFILTER.exists() and not (succeeds("modprobe", "br_netfilter") and NETFILTER.exists()):
        raise ClusterError("the kernel module br_netfilter is missing: load it with modprobe br_netfilter")
    run("ip", "link", "set", BRIDGE, "type", "bridge", "nf_call_iptables", "1")
    run("ip", "address", "replace", f"{NODE_ADDRESS}/{POD_CIDR.rpartition('/')[2]}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    for rule in RULES:
        if not succeeds(*_iptables("-C", *rule)):
            run(*_iptables("-I", *rule))


def down() -> None:
    """Removes what ``up`` made; what is gone already is no error."""
    for rule in RULES:
        while succeeds(*_iptables("-D", *rule)):
            pass
    if exists():
        run("ip", "link", "delete", BRIDGE)


def remove_chain(name: str) -> None:
    """Removes a chain of the filter table, for IPv4 and IPv6, with the jumps to it from INPUT and OUTPUT."""
    for tool in ("iptables", "ip6tables"):
        for hook in ("INPUT", "OUTPUT"):
            while succeeds(tool, "-w", "-D", hook, "-j", name):
                pass
        if succeeds(tool, "-w", "-F", name):
            run(tool, "-w", "-X", name)


def _iptables(action: str, table: str, chain: str, match: str, target: str) -> list[str]:
    comment = ["-m", "comment", "--comment", RULE_COMMENT]
    return ["iptables", "-w", "-t", table, action, chain, *match.split(), *comment, "-j", target]
