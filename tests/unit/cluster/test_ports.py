"""Ports of the embedded cluster, with real sockets."""

import os
import socket
from dataclasses import astuple
from pathlib import Path

import pytest

from embedded_cluster.errors import ClusterError
from embedded_cluster.ports import ControlPlanePorts, accepts_connections, require_free


def test_a_taken_port_is_named_with_its_use_and_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        comm = Path("/proc/self/comm").read_text().strip()
        message = rf"port {port} \(etcd\) is taken by {comm} \(pid {os.getpid()}\): stop it"
        with pytest.raises(ClusterError, match=message):
            require_free("etcd", [("127.0.0.1", port)])


@pytest.mark.parametrize(("family", "any_address"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_a_listener_on_every_address_takes_the_port_of_one(family: int, any_address: str) -> None:
    server = socket.create_server((any_address, 0), family=family)
    with server, pytest.raises(ClusterError, match="is taken by"):
        require_free("kubelet", [("127.0.0.1", server.getsockname()[1])])


def test_a_listener_on_another_address_takes_nothing() -> None:
    with socket.create_server(("127.0.0.2", 0)) as server:
        require_free("kubelet", [("127.0.0.1", server.getsockname()[1])])


def test_a_port_that_is_only_connected_from_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        require_free("etcd", [("127.0.0.1", client.getsockname()[1])])


def test_free_ports_are_all_different_and_free() -> None:
    ports = astuple(ControlPlanePorts.free())
    assert len(set(ports)) == len(ports)
    require_free("etcd", [("127.0.0.1", port) for port in ports])


def test_only_a_listener_accepts_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = server.getsockname()
        assert accepts_connections(endpoint)
    assert not accepts_connections(endpoint)
