"""`kubectl finetune watch` against a real API server: a job's status is written in steps and the command follows."""

from __future__ import annotations

import copy
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.process import wait_until
from finetune_cli.client import JobClient, JobEvent, JobList, connect
from finetune_cli.errors import CliError
from finetune_cli.follow import Clock, Follower, Seen, Waiting
from watch_command import DEADLINE_SECONDS, Command, Watch

DATA = Path(__file__).parents[1] / "data/cli"
CLOCK = Clock(time.monotonic, time.sleep)
NAMES = (f"watched-{number}" for number in itertools.count())


def status_of(name: str) -> dict[str, Any]:
    """The status of one of the rendering's examples."""
    status: dict[str, Any] = yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))["status"]
    return status


@dataclass(frozen=True)
class Job:
    """A FineTuneJob on the API server."""

    apiserver: ControlPlane
    name: str

    def create(self) -> None:
        document = copy.deepcopy(yaml.safe_load((DATA / "new.yaml").read_text(encoding="utf-8")))
        document["metadata"] = {"name": self.name, "namespace": "default"}
        self.apiserver.kubectl.apply([document])

    def write_status(self, example: str) -> None:
        patch = json.dumps([{"op": "add", "path": "/status", "value": status_of(example)}])
        self.apiserver.kubectl("patch", "ftj", self.name, "--subresource=status", "--type=json", "-p", patch)

    def delete(self) -> None:
        self.apiserver.kubectl("delete", "ftj", self.name)


@pytest.fixture
def watch(apiserver: ControlPlane) -> Iterator[Watch]:
    """Starts the command; what still runs at the end of the test is stopped."""
    started: list[Command] = []

    def start(name: str, *arguments: str, kubeconfig: Path | None = None, on_terminal: bool = False) -> Command:
        file = kubeconfig or apiserver.kubeconfig
        command = Command([name, "--kubeconfig", str(file), *arguments], on_terminal)
        started.append(command)
        return command

    yield start
    for command in started:
        command.stop()


@pytest.fixture
def job(apiserver: ControlPlane) -> Job:
    return Job(apiserver, next(NAMES))


def test_a_job_is_followed_line_by_line_to_its_success_and_result(job: Job, watch: Watch) -> None:
    job.create()
    command = watch(job.name)
    command.wait_for_output("Pending  waiting for the operator to see the job\n")
    for example, line in (
        ("unschedulable", "Pending  Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        ("training", "Training  120/200 (60%)  loss 0.5821  learning rate 8.21e-05  ETA 1m 01s  attempt 2"),
        ("evaluating", "Evaluating  640/1273 (50%)  ETA 44s\n"),
        ("succeeded", f"✔ default/{job.name} succeeded after 4m 31s (54s of it waiting for a pod)\n"),
    ):
        job.write_status(example)
        command.wait_for_output(line)
    assert command.wait() == 0, command.errors
    assert "pvc://models/medqa/3f2a9c01d4be/adapter " in command.output
    assert "2.313 → 0.3124 in 200 steps " in command.output
    assert "\x1b" not in command.output


def test_a_failed_job_ends_the_watch_with_1_and_says_what_to_do(job: Job, watch: Watch) -> None:
    job.create()
    command = watch(job.name)
    command.wait_for_output("Pending")
    job.write_status("out-of-memory")
    assert command.wait() == 1, command.errors
    assert "OutOfMemory (exit code 69)" in command.output
    assert "lower microBatchSize or maxSequenceLength" in command.output


def test_a_job_that_is_over_is_shown_at_once(job: Job, watch: Watch) -> None:
    job.create()
    job.write_status("succeeded-without-evaluation")
    command = watch(job.name)
    assert command.wait() == 0, command.errors
    assert command.output.count("succeeded after 2m 11s") == 1


def test_a_terminal_shows_the_stages_live_and_then_only_the_result(job: Job, watch: Watch) -> None:
    job.create()
    job.write_status("training")
    command = watch(job.name, on_terminal=True)
    command.wait_for_output("120/200")
    command.wait_for_output("Evaluating")  # the stage to come
    job.write_status("succeeded")
    assert command.wait() == 0, command.errors
    last_screen = command.output.rpartition("\x1b[?25h")[2]  # after the cursor is back
    assert "succeeded after 4m 31s" in last_screen
    assert "120/200" not in last_screen


def test_a_job_that_is_not_there_yet_is_awaited_and_the_others_are_named(
    apiserver: ControlPlane, job: Job, watch: Watch
) -> None:
    other = Job(apiserver, next(NAMES))
    other.create()
    command = watch(job.name, "--timeout", "1m")
    command.wait_for_output(f"no FineTuneJob '{job.name}' in namespace 'default' (there are: ")
    assert other.name in command.output
    job.create()
    job.write_status("succeeded-without-evaluation")
    assert command.wait() == 0, command.errors


def test_a_wrong_name_is_told_after_a_moments_grace(apiserver: ControlPlane, job: Job) -> None:
    job.create()
    client = connect(apiserver.kubeconfig, None, None)
    now = itertools.count(0.0, 1.0)
    wrong = f"{job.name}x"
    updates = Follower(client, wrong, None, Clock(lambda: next(now), lambda _: None)).updates()
    said = next(updates)
    assert isinstance(said, Waiting)
    assert said.message.startswith(f"no FineTuneJob '{wrong}' in namespace 'default' (there are: {job.name}")
    with pytest.raises(CliError, match=f"no FineTuneJob '{wrong}'"):
        list(itertools.islice(updates, 5))


def test_ctrl_c_while_the_command_loads_ends_it_without_a_traceback(apiserver: ControlPlane) -> None:
    command = Command(["any", "--kubeconfig", str(apiserver.kubeconfig)], interpreter=("-X", "importtime"))
    command.wait_for_output("pydantic", "errors")
    command.interrupt()
    assert command.wait() == 130
    assert "Traceback" not in command.errors
    assert command.output == ""


@pytest.mark.parametrize("on_terminal", [False, True])
def test_ctrl_c_leaves_what_was_seen_and_says_that_the_job_goes_on(
    apiserver: ControlPlane, job: Job, watch: Watch, on_terminal: bool
) -> None:
    job.create()
    job.write_status("training")
    command = watch(job.name, "-n", "default", on_terminal=on_terminal)
    command.wait_for_output("120/200")
    command.interrupt()
    assert command.wait() == 130
    assert command.errors == (
        f"stopped watching; the job goes on, and kubectl finetune watch {job.name} -n default "
        f"--kubeconfig {apiserver.kubeconfig} shows it again\n"
    )
    assert "120/200" in command.output.rpartition("\x1b[2K")[2]  # the last thing drawn, not erased


def test_a_job_that_never_comes_ends_the_watch_with_3_and_what_there_is(job: Job, watch: Watch) -> None:
    command = watch(job.name, "-n", "kube-public", "--timeout", "1s")
    assert command.wait() == 3
    expected = f"error: no FineTuneJob '{job.name}' in namespace 'kube-public' (there is none; "
    assert command.errors.startswith(expected)


def test_a_deleted_job_ends_the_watch_with_3(job: Job, watch: Watch) -> None:
    job.create()
    command = watch(job.name)
    command.wait_for_output("Pending")
    job.delete()
    assert command.wait() == 3
    assert command.errors == f"error: FineTuneJob default/{job.name} was deleted; its artefacts, if any, are kept\n"


def test_a_time_limit_ends_the_watch_with_3_while_the_job_goes_on(job: Job, watch: Watch) -> None:
    job.create()
    job.write_status("training")
    command = watch(job.name, "--timeout", "1s")
    assert command.wait() == 3
    assert re.search(rf"FineTuneJob default/{job.name} is still Training after \d+s; it goes on", command.errors)


class Relay:
    """A TCP relay to the API server whose connections can be cut, as a load balancer does."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()
        except OSError:  # the listener was closed
            return

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
        except OSError:  # cut
            return

    def cut(self) -> None:
        while self._open:
            with suppress(OSError), self._open.pop() as end:
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_a_lost_connection_is_said_and_the_watch_goes_on(
    apiserver: ControlPlane, job: Job, watch: Watch, tmp_path: Path
) -> None:
    with closing(Relay(apiserver.ports.apiserver)) as relay:
        kubeconfig = tmp_path / "config"
        text = apiserver.kubeconfig.read_text(encoding="utf-8")
        kubeconfig.write_text(text.replace(apiserver.server, f"https://127.0.0.1:{relay.port}"), encoding="utf-8")
        job.create()
        job.write_status("training")
        command = watch(job.name, kubeconfig=kubeconfig)
        command.wait_for_output("Training")

        def cut_until_said() -> bool:
            relay.cut()  # the first may come before the watch is open, which then opens on a new connection
            return "trying again\n" in command.output

        wait_until(cut_until_said, DEADLINE_SECONDS, "the word of a lost connection")
        job.write_status("succeeded")
        assert command.wait() == 0, command.errors


class StaleClient(JobClient):
    """Asks its first watch for a version that the API server has long forgotten."""

    asked: list[str] = []

    def watch(self, name: str, resource_version: str, seconds: int) -> Iterator[JobEvent]:
        self.asked.append(resource_version)
        return super().watch(name, "1" if len(self.asked) == 1 else resource_version, seconds)


def test_an_expired_watch_lists_anew_without_a_word(apiserver: ControlPlane, job: Job) -> None:
    job.create()
    client = connect(apiserver.kubeconfig, None, None)
    stale = StaleClient(client.api, client.namespace)
    updates = Follower(stale, job.name, 5.0, CLOCK).updates()
    assert isinstance(next(updates), Seen)
    assert isinstance(next(updates), Seen)  # listed again after the refusal
    assert len(stale.asked) == 1
    job.write_status("training")
    latest = next(updates)
    assert isinstance(latest, Seen)
    assert latest.job.status.stage == "Training"


class BusyClient(JobClient):
    """Its first list is refused, as by an API server that has just got the CRD."""

    asked: list[str] = []

    def list(self, name: str) -> JobList:
        self.asked.append(name)
        if len(self.asked) == 1:
            raise ApiException(status=429, reason="storage is (re)initializing")
        return super().list(name)


def test_an_api_server_that_is_busy_at_first_is_asked_again(apiserver: ControlPlane, job: Job) -> None:
    job.create()
    client = connect(apiserver.kubeconfig, None, None)
    clock = Clock(time.monotonic, lambda seconds: None)
    updates = Follower(BusyClient(client.api, client.namespace), job.name, 30.0, clock).updates()
    assert next(updates) == Waiting(f"{apiserver.server} refused: storage is (re)initializing; trying again")
    assert isinstance(next(updates), Seen)


class BlindClient(JobClient):
    """Its watches end before they tell anything, as on a connection that is cut."""

    def watch(self, name: str, resource_version: str, seconds: int) -> Iterator[JobEvent]:
        return iter(())


@pytest.mark.parametrize("kind", [JobClient, BlindClient])
def test_a_deletion_is_seen_in_the_watch_and_by_listing_anew(
    apiserver: ControlPlane, job: Job, kind: type[JobClient]
) -> None:
    job.create()
    client = connect(apiserver.kubeconfig, None, None)
    updates = Follower(kind(client.api, client.namespace), job.name, 30.0, CLOCK).updates()
    assert isinstance(next(updates), Seen)
    job.delete()
    with pytest.raises(CliError, match="was deleted; its artefacts"):
        next(updates)


def test_a_namesake_that_took_the_jobs_place_unseen_is_not_taken_for_it(apiserver: ControlPlane, job: Job) -> None:
    job.create()
    client = connect(apiserver.kubeconfig, None, None)
    updates = Follower(BlindClient(client.api, client.namespace), job.name, 30.0, CLOCK).updates()
    assert isinstance(next(updates), Seen)
    job.delete()
    job.create()
    with pytest.raises(CliError, match="was deleted and created again; run the command once more"):
        next(updates)


def test_credentials_that_the_api_server_refuses_are_named(apiserver: ControlPlane, job: Job, tmp_path: Path) -> None:
    document = yaml.safe_load(apiserver.kubeconfig.read_text(encoding="utf-8"))
    document["users"][0]["user"] = {"token": "stale"}
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(document), encoding="utf-8")
    follower = Follower(connect(kubeconfig, None, None), job.name, None, CLOCK)
    with pytest.raises(CliError, match=r"does not accept the kubeconfig's credentials \(Unauthorized\); log in again"):
        next(follower.updates())
