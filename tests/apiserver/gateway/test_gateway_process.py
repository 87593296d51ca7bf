"""The gateway's own life: its end, a renewed certificate, a missing Secret."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.process import wait_until
from finetune_operator.gateway.connections import LIFE_SECONDS
from gateway_process import SYSTEM, Gateway, running_gateway
from gateway_runs import SECONDS, Run, body


def test_what_is_unwritten_at_the_end_of_the_process_is_written(
    gateway: Gateway, gateway_kubeconfig: Path, run: Run
) -> None:
    pod = run.running()
    token = run.token(pod)
    with running_gateway(gateway_kubeconfig, gateway.authority.parent, GATEWAY_FLUSH_SECONDS="3600") as second:
        second.push(run, token, body(10))
        run.shows(10, pod)
        assert second.push(run, token, body(11)).code == 200
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(SECONDS) == 0, second.log.read_text()
    run.shows(11, pod)


def test_idle_connections_keep_neither_pushes_nor_probes_out(
    gateway: Gateway, gateway_kubeconfig: Path, run: Run
) -> None:
    pod = run.start()
    token = run.token(pod)
    bounds = {"GATEWAY_MAX_CONNECTIONS": "4", "GATEWAY_HEAD_SECONDS": "3600"}
    with running_gateway(gateway_kubeconfig, gateway.authority.parent, **bounds) as second, ExitStack() as stack:
        trusted = ssl.create_default_context(cafile=str(second.authority))

        def connect(port: int) -> socket.socket:
            patience = LIFE_SECONDS / 2  # after which it is not for want of a place that a connection ends
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=patience))

        silent = connect(second.port)
        tls = [trusted.wrap_socket(connect(second.port), server_hostname="localhost") for _ in range(3)]
        for idler in tls:
            stack.enter_context(idler).sendall(b"POST / HTTP/1.1\r\nHost: gateway\r\nX-Unfinished: ")
        assert second.push(run, token, body(1)).code == 200
        assert silent.recv(1) == b""
        assert "All 4 connections are taken" in second.log.read_text()
        idlers = [connect(second.health_port) for _ in range(8)]
        with urllib.request.urlopen(f"http://127.0.0.1:{second.health_port}/healthz", timeout=SECONDS) as answer:
            assert answer.read() == b"ok"
        assert idlers[0].recv(1) == b""


def test_a_connection_that_sends_no_request_is_closed(gateway: Gateway, gateway_kubeconfig: Path) -> None:
    with running_gateway(gateway_kubeconfig, gateway.authority.parent, GATEWAY_HEAD_SECONDS="1") as second:
        trusted = ssl.create_default_context(cafile=str(second.authority))
        with (
            socket.create_connection(("localhost", second.port), timeout=LIFE_SECONDS / 2) as connection,
            trusted.wrap_socket(connection, server_hostname="localhost") as idler,
        ):
            idler.sendall(b"POST / HTTP/1.1\r\nHost: gateway\r\nX-Unfinished: ")
            assert idler.recv(1) == b""


def test_a_renewed_certificate_is_served_without_a_restart(
    apiserver: ControlPlane, gateway: Gateway, gateway_kubeconfig: Path
) -> None:
    folder = gateway.authority.parent
    with running_gateway(gateway_kubeconfig, folder, GATEWAY_RENEWAL_CHECK_SECONDS="0.2") as second:
        address = ("localhost", second.port)
        before = ssl.get_server_certificate(address, ca_certs=str(second.authority))
        removal = json.dumps([{"op": "remove", "path": "/data/tls.crt"}])
        apiserver.kubectl("-n", SYSTEM, "patch", "secret", "finetune-gateway-tls", "--type=json", "-p", removal)

        def renewed() -> bool:
            return ssl.get_server_certificate(address, ca_certs=str(second.authority)) != before

        wait_until(renewed, SECONDS, "a new certificate of the same authority")


def test_a_missing_secret_is_named_and_ends_the_process(gateway_kubeconfig: Path, namespace: str) -> None:
    environment = os.environ | {"KUBECONFIG": str(gateway_kubeconfig), "OPERATOR_NAMESPACE": namespace}
    command = [sys.executable, "-m", "finetune_operator", "gateway"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "finetune-gateway-tls" in done.stderr.splitlines()[-1]
