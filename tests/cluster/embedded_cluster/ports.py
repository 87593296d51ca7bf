"""The ports of the cluster, and who holds one that should be free."""

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from embedded_cluster.errors import ClusterError

LISTENING = "0A"
ANY_ADDRESS = ("0" * 8, "0" * 32)
MAPPED_PREFIX = "0000000000000000FFFF0000"

Endpoint = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class ControlPlanePorts:
    """Upstream's defaults, so that what is written about Kubernetes holds here."""

    etcd: int = 2379
    etcd_peer: int = 2380
    apiserver: int = 6443
    controller_manager: int = 10257
    scheduler: int = 10259

    @classmethod
    def free(cls) -> Self:
        """Ports that no process holds now; each is free until somebody else binds it."""
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in fields(cls)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            names = [field.name for field in fields(cls)]
            return cls(**{name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)})


def require_free(name: str, endpoints: Iterable[Endpoint]) -> None:
    """Checks that nothing listens where the component ``name`` will.

    Raises:
        ClusterError: one is taken; names the port, what it is for and the process that holds it.
    """
    for address, port in endpoints:
        inode = _listener(address, port)
        if inode is not None:
            raise ClusterError(f"port {port} ({name}) is taken by {_owner(inode)}: stop it, then try again")


def accepts_connections(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection(endpoint, timeout=1).close()
    except OSError:
        return False
    return True


def _listener(address: str, port: int) -> str | None:
    """Inode of the TCP socket that listens on ``address`` or on every address, as in proc(5) ``net/tcp``."""
    own = f"{struct.unpack('=I', socket.inet_aton(address))[0]:08X}"
    wanted = (own, MAPPED_PREFIX + own, *ANY_ADDRESS)
    for local, state, inode in _sockets():
        held_address, held_port = local.split(":")
        if state == LISTENING and int(held_port, 16) == port and held_address in wanted:
            return inode
    return None


def _sockets() -> Iterator[tuple[str, str, str]]:
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net", table)
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            columns = line.split()
            yield columns[1], columns[3], columns[9]


def _owner(inode: str) -> str:
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) == f"socket:[{inode}]":
                process = link.parents[1]
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return "another process"
