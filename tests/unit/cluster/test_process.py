"""Daemons of the embedded cluster, with real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded_cluster.errors import ClusterError
from embedded_cluster.process import Daemon, start_time_of, wait_until

Start = Callable[..., Daemon]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Start]:
    """Makes a daemon from a shell script; every one is stopped at the end."""
    made: list[Daemon] = []

    def make(script: str, name: str = "daemon") -> Daemon:
        made.append(Daemon(name=name, command=["sh", "-c", script], run_dir=tmp_path, log_dir=tmp_path / "log"))
        return made[-1]

    yield make
    for each in made:
        each.stop(grace_seconds=0)


def test_a_started_daemon_runs_until_it_is_stopped(daemon: Start) -> None:
    sleeper = daemon("exec sleep 60")
    assert sleeper.start() is True
    pid = sleeper.pid
    assert pid
    assert os.getsid(pid) == pid, "it must outlive the caller's terminal"
    assert sleeper.stop() is True
    assert start_time_of(pid) is None
    assert not sleeper.pid_file.exists()


def test_starting_and_stopping_twice_does_nothing(daemon: Start) -> None:
    sleeper = daemon("exec sleep 60")
    sleeper.start()
    pid = sleeper.pid
    assert sleeper.start() is False
    assert sleeper.pid == pid
    sleeper.stop()
    assert sleeper.stop() is False


def test_a_process_that_got_the_pid_of_a_dead_daemon_is_not_killed(daemon: Start) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        start_time = start_time_of(stranger.pid)
        assert start_time is not None
        dead = daemon("exec sleep 60")
        dead.pid_file.write_text(f"{stranger.pid} {start_time - 1}\n")
        assert dead.pid is None
        assert dead.stop() is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_daemon_that_ignores_sigterm_is_killed(daemon: Start) -> None:
    stubborn = daemon("trap '' TERM; echo ready; while true; do sleep 0.1; done")
    stubborn.start()
    stubborn.wait_until_ready(lambda: "ready" in stubborn.log.read_text(), 10)
    pid = stubborn.pid
    assert pid
    assert stubborn.stop(grace_seconds=0.2) is True
    assert start_time_of(pid) is None


def test_a_daemon_that_dies_while_starting_is_reported_with_its_last_words(daemon: Start) -> None:
    broken = daemon("echo bad flag --colour >&2; exit 1")
    broken.start()
    with pytest.raises(ClusterError, match=r"daemon stopped while starting; .*daemon\.log:\nbad flag --colour"):
        broken.wait_until_ready(lambda: False, 10)


def test_a_daemon_that_never_gets_ready_is_reported_with_its_last_words(daemon: Start) -> None:
    slow = daemon("echo waiting for Godot; exec sleep 60")
    slow.start()
    wait_until(lambda: "Godot" in slow.log.read_text(), 10, "its line")
    with pytest.raises(ClusterError, match=r"becoming ready did not happen within 0\.1 s; .*\nwaiting for Godot"):
        slow.wait_until_ready(lambda: False, 0.1)


def test_the_log_of_a_run_that_died_is_kept_beside_the_next(daemon: Start) -> None:
    broken = daemon("echo run; exit 1")
    broken.start()
    wait_until(lambda: broken.pid is None, 10, "its end")
    broken.start()
    assert broken.log.with_suffix(".previous.log").read_text() == "run\n"


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = Daemon(name="etcd", command=["/nowhere/etcd"], run_dir=tmp_path, log_dir=tmp_path)
    with pytest.raises(ClusterError, match="etcd: /nowhere/etcd can't be run: No such file"):
        missing.start()


def test_proxies_are_kept_from_daemons(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("KEPT", "yes")
    printer = daemon("env; echo end; exec sleep 60")
    printer.start()
    printer.wait_until_ready(lambda: "end" in printer.log.read_text(), 10)
    assert "KEPT=yes" in printer.log.read_text()
    assert "PROXY" not in printer.log.read_text()


def test_a_tied_daemon_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, signal, pathlib
from embedded_cluster.process import Daemon
folder = pathlib.Path({str(tmp_path)!r})
command = ["sh", "-c", "echo on; exec sleep 60"]
tied = Daemon(name="tied", command=command, run_dir=folder, log_dir=folder, dies_with_parent=True)
tied.start()
tied.wait_until_ready(lambda: bool(tied.log.read_text()), 10)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    pid = int((tmp_path / "tied.pid").read_text().split()[0])
    wait_until(lambda: start_time_of(pid) is None, 10, "end of the tied daemon")
