"""Runs daemons detached from the caller: one log and one pid file each, never a foreign process killed."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster.errors import ClusterError

POLL_SECONDS = 0.05
LOG_TAIL_LINES = 15
KILL_SECONDS = 10


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Polls ``condition`` until it holds.

    Raises:
        ClusterError: it did not hold within ``seconds``; the message starts with ``what``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not happen within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def start_time_of(pid: int) -> int | None:
    """Start time of a live process in clock ticks since boot; None for a dead one.

    Fields of proc(5) ``stat``: 3 is the state, 20 the number of threads, 22 the start time. A killed process whose
    first thread is a zombie still holds its ports while another thread lives.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, threads, start_time = fields[0], int(fields[17]), int(fields[19])
    return None if state in "ZX" and threads <= 1 else start_time


def last_lines(log: Path, count: int = LOG_TAIL_LINES) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) if log.exists() else "(no log)"


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A background process known by its pid file ``<run_dir>/<name>.pid``.

    The pid file holds the pid and the start time, so a pid that the kernel gave to another process since is not ours.
    """

    name: str
    command: Sequence[str]
    run_dir: Path
    log_dir: Path
    dies_with_parent: bool = False

    @property
    def pid_file(self) -> Path:
        return self.run_dir / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.log_dir / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The pid while the process lives, else None."""
        try:
            pid, start_time = map(int, self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        _reap(pid)
        return pid if start_time_of(pid) == start_time else None

    def start(self) -> bool:
        """Starts the process in a session of its own; False when it already ran.

        Raises:
            ClusterError: the program does not exist or can't be executed.
        """
        if self.pid is not None:
            return False
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            # It may say why the process died.
            self.log.rename(self.log.with_suffix(".previous.log"))
        pid = self._spawn()
        part = self.pid_file.with_suffix(".part")
        part.write_text(f"{pid} {start_time_of(pid) or 0}\n")
        part.rename(self.pid_file)
        return True

    def wait_until_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Polls ``ready``, which must test the service itself, until it holds.

        Raises:
            ClusterError: the process died or was not ready in time; the message ends with its last log lines.
        """
        try:
            wait_until(lambda: self.pid is None or ready(), seconds, f"{self.name} becoming ready")
        except ClusterError as error:
            raise ClusterError(self._with_log(str(error))) from None
        if self.pid is None:
            raise ClusterError(self._with_log(f"{self.name} stopped while starting"))

    def stop(self, grace_seconds: float = 10) -> bool:
        """Ends the process: SIGTERM, then SIGKILL after ``grace_seconds``; False when it did not run."""
        pid = self.pid
        if pid is not None:
            self._end(pid, grace_seconds)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def _spawn(self) -> int:
        tie = ["setpriv", "--pdeathsig", "TERM"] if self.dies_with_parent else []
        command = [*tie, *map(str, self.command)]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            return os.posix_spawnp(command[0], command, _environment(), file_actions=actions, setsid=True)
        except OSError as error:
            raise ClusterError(f"{self.name}: {command[0]} can't be run: {error.strerror}") from error

    def _end(self, pid: int, grace_seconds: float) -> None:
        _signal(pid, signal.SIGTERM)
        try:
            wait_until(lambda: self.pid is None, grace_seconds, f"{self.name} stopping")
        except ClusterError:
            _signal(pid, signal.SIGKILL)
            wait_until(lambda: self.pid is None, KILL_SECONDS, f"the end of {self.name} after SIGKILL")

    def _with_log(self, message: str) -> str:
        return f"{message}; the last lines of {self.log}:\n{last_lines(self.log)}"


def _environment() -> dict[str, str]:
    """The caller's environment without proxies: all that the daemons talk to is on this machine."""
    return {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}


def _signal(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that may be gone by now."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(pid: int) -> None:
    """Collects the exit status if the process was a child of ours, or it would stay as a zombie."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
