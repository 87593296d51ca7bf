"""Which folder a stage writes to: free, its own, another job's, identical or not, written to or left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import JobReference, RunConfig
from finetune_api.reasons import Reason
from finetune_api.results import LineageStatus, StageLineage, StageResult
from finetune_api.stages import EVALUATE, TRAIN
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.result import is_identical, read_result, stage_lineage, stage_result, write_result
from finetune_trainer.stage.run_folder import (
    EvaluationFolder,
    RunFolder,
    Turn,
    belongs,
    checkpoints_of,
    find_trained,
    open_evaluation,
    open_training,
)
from finetune_trainer.stage.writer_lock import WRITER
from trainer_inputs import refusal, run_config

SPEC: dict[str, Any] = {
    "model": {"source": "pvc://work/model"},
    "dataset": {"source": "pvc://work/rows"},
    "evaluation": {"dataset": {"source": "pvc://work/rows"}},
    "output": {"destination": "pvc://work/out"},
    "runtime": {"gpusPerNode": 0},
}
MADE_FROM = LineageStatus(model_sha256="a" * 64, dataset_sha256="b" * 64)
HOLDER = """
import sys, pathlib
from finetune_trainer.stage import writer_lock
lock = writer_lock.take(pathlib.Path(sys.argv[1]), sys.argv[2])
assert isinstance(lock, writer_lock.WriterLock), lock
print("held", flush=True)
sys.stdin.read()
"""


def job(claim: Path, uid: str = "uid-1-of-a-job", **sections: Any) -> RunConfig:
    return run_config({**SPEC, **sections}, {"work": claim}, uid)


def read_whole(config: RunConfig) -> Any:
    def read(folder: Any) -> StageResult | None:
        result = read_result(folder.result)
        return result if result and belongs(result, config) and not (folder.path / "damaged").exists() else None

    return read


def training(config: RunConfig) -> Any:
    return open_training(config, read_whole(config))


def finish(config: RunConfig, made_from: LineageStatus = MADE_FROM) -> RunFolder:
    """A whole training of a job."""
    with training(config) as turn:
        turn.reuse(lambda _: False)
        sections = {"lineage": made_from, "stage_lineage": stage_lineage(config, "CPU")}
        write_result(turn.folder.result, stage_result(config, TRAIN, sections))
        folder: RunFolder = turn.folder
        return folder


def identical(config: RunConfig, made_from: LineageStatus = MADE_FROM) -> Any:
    return lambda result: is_identical(result, made_from, stage_lineage(config, "CPU"))


@contextmanager
def another_process(folder: Path, uid: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a folder's lock as a job's pod does."""
    folder.mkdir(parents=True, exist_ok=True)
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(folder), uid]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def shared_path(config: RunConfig, claim: Path) -> Path:
    return claim / "out" / config.training_sha256[:12]


def test_a_free_folder_is_the_one_that_the_training_digest_names(tmp_path: Path) -> None:
    config = job(tmp_path)
    with training(config) as turn:
        assert turn.done is None
        assert turn.folder.path == shared_path(config, tmp_path)
        assert turn.folder.adapter_uri == f"pvc://work/out/{config.training_sha256[:12]}/adapter"
        assert turn.reuse(lambda _: True) is None


def test_a_second_attempt_finds_its_own_result_and_another_evaluation_does_not_change_the_folder(
    tmp_path: Path,
) -> None:
    folder = finish(job(tmp_path))
    other = job(tmp_path, evaluation={"dataset": {"source": "pvc://work/rows"}, "maxNewTokens": 7})
    with training(other) as turn:
        assert turn.folder == folder
        assert turn.done
        assert turn.done.job_uid == "uid-1-of-a-job"


def test_an_identical_jobs_result_is_reused_and_nothing_in_its_folder_changes(tmp_path: Path) -> None:
    folder = finish(job(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (folder.path, *folder.path.rglob("*"))}
    second = job(tmp_path, uid="uid-2-of-a-job")
    with training(second) as turn:
        assert turn.done is None
        reused = turn.reuse(identical(second))
        assert reused
        assert (reused.job_uid, reused.reused) == ("uid-2-of-a-job", True)
    assert {path: path.stat().st_mtime_ns for path in (folder.path, *folder.path.rglob("*"))} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == [folder.path.name]


@pytest.mark.parametrize("change", ["rows", "model", "image", "software", "gpu", "damaged"])
def test_a_job_that_would_come_to_something_else_gets_a_folder_of_its_own(tmp_path: Path, change: str) -> None:
    folder = finish(job(tmp_path))
    kept = folder.result.read_bytes()
    second = job(tmp_path, uid="uid-2-of-a-job")
    made_from, runner = MADE_FROM, stage_lineage(second, "CPU")
    if change == "rows":
        made_from = MADE_FROM.model_copy(update={"dataset_sha256": "c" * 64})
    elif change == "model":
        made_from = MADE_FROM.model_copy(update={"model_revision": "0" * 40})
    elif change == "damaged":
        (folder.path / "damaged").touch()
    else:
        update = {"image": {"image": "other@sha256:1"}, "software": {"packages": "torch==1"}, "gpu": {"device": "T4"}}
        runner = runner.model_copy(update=update[change])
    with training(second) as turn:
        assert turn.reuse(lambda result: is_identical(result, made_from, runner)) is None
        assert turn.folder.path.name == f"{second.training_sha256[:12]}-uid-2-of"
        (turn.folder.path / "own").touch()
    assert folder.result.read_bytes() == kept
    with training(second) as turn:  # once there is a folder of its own, it is that
        assert (turn.folder.path / "own").exists()


def test_whose_software_is_not_known_is_not_identical() -> None:
    config = job(Path("/nowhere"))
    result = stage_result(config, TRAIN, {"lineage": MADE_FROM})
    assert not is_identical(result, MADE_FROM, StageLineage())


def test_while_another_job_writes_to_the_shared_folder_a_job_writes_beside_it(tmp_path: Path) -> None:
    config = job(tmp_path)
    shared = shared_path(config, tmp_path)
    with another_process(shared, "uid-2"), training(config) as turn:
        assert turn.folder.path.name == f"{shared.name}-uid-1-of"


def test_while_another_pod_of_the_same_job_writes_the_stage_is_busy(tmp_path: Path) -> None:
    config = job(tmp_path)
    with another_process(shared_path(config, tmp_path), config.job.uid):
        text = refusal(lambda: training(config).__enter__(), Reason.FOLDER_BUSY)
        assert "another pod or run of this job still writes to pvc://work/out/" in text
    with training(config) as turn:  # its process is gone now
        assert turn.folder.path == shared_path(config, tmp_path)


def test_a_folder_that_a_dead_writer_left_is_taken_over_without_its_drafts(tmp_path: Path) -> None:
    config = job(tmp_path)
    shared = shared_path(config, tmp_path)
    with another_process(shared, "uid-2") as process:
        (shared / ".adapter-x1").mkdir()
        process.kill()
        process.wait()
    assert (shared / WRITER).exists()
    with training(config) as turn:
        assert turn.folder.path == shared
        assert [path.name for path in shared.iterdir()] == [WRITER]


def test_a_result_that_appears_while_the_lock_is_awaited_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.stage import writer_lock

    first, second = job(tmp_path), job(tmp_path, uid="uid-2-of-a-job")
    take, done = writer_lock.take, list[bool]()

    def late(folder: Path, uid: str) -> Any:
        if not done:
            done.append(True)
            finish(first)
        return take(folder, uid)

    monkeypatch.setattr(writer_lock, "take", late)
    with training(second) as turn:
        assert turn.reuse(lambda _: False) is None
        assert turn.folder.path.name.endswith("-uid-2-of")


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (StageError(Reason.DATASET_INVALID, "row 7"), []),
        (StageError(Reason.FOLDER_BUSY, "taken over"), ["run.lock.json", "spec.json"]),
        (ZeroDivisionError("a crash is tried again, by the same lock"), ["run.lock.json", "spec.json"]),
    ],
)
def test_a_stage_that_will_not_be_tried_again_leaves_no_folder_behind(
    tmp_path: Path, error: Exception, left: list[str]
) -> None:
    config = job(tmp_path)

    def fail() -> None:
        with training(config) as turn:
            turn.folder.lock.write_text("{}")
            turn.folder.spec.write_text("{}")
            raise error

    with pytest.raises(type(error)):
        fail()
    folder = shared_path(config, tmp_path)
    assert folder.is_dir() == bool(left)
    assert sorted(path.name for path in folder.glob("*")) == left


def test_a_failed_stage_keeps_what_is_more_than_a_lock(tmp_path: Path) -> None:
    config = job(tmp_path)

    def fail() -> None:
        with training(config) as turn:
            turn.folder.lock.write_text("{}")
            turn.folder.metrics.write_text("{}\n")
            raise StageError(Reason.LOSS_DIVERGED, "nan")

    with pytest.raises(StageError):
        fail()
    assert sorted(path.name for path in shared_path(config, tmp_path).iterdir()) == ["metrics.jsonl", "run.lock.json"]


def test_a_writer_that_was_paused_and_replaced_is_told_before_it_writes(tmp_path: Path) -> None:
    config = job(tmp_path)
    with training(config) as turn:
        turn.confirm()
        (turn.folder.path / WRITER).write_text('{"jobUid": "uid-2", "host": "elsewhere", "token": "other"}')
        assert "took" in refusal(turn.confirm, Reason.FOLDER_BUSY)
    assert (turn.folder.path / WRITER).exists()  # it is another's now


def test_an_evaluation_lies_in_its_trainings_folder_and_is_reused_or_set_aside_like_it(tmp_path: Path) -> None:
    def evaluation(config: RunConfig) -> Any:
        found = find_trained(config, read_whole(config))
        assert found
        return open_evaluation(config, found[0], read_whole(config))

    def end(config: RunConfig, turn: Turn[EvaluationFolder]) -> None:
        sections = {"lineage": MADE_FROM, "stage_lineage": stage_lineage(config, "CPU")}
        write_result(turn.folder.result, stage_result(config, EVALUATE, sections))

    first, second, third = (job(tmp_path, uid=f"uid-{number}-of-a-job") for number in (1, 2, 3))
    folder = finish(first)
    digest = first.evaluation_sha256
    assert digest
    with evaluation(first) as turn:
        assert turn.folder.path == folder.path / "evaluations" / digest[:12]
        assert turn.folder.report_uri == f"{folder.uri}/evaluations/{digest[:12]}/report.json"
        end(first, turn)
    with evaluation(first) as turn:
        assert turn.done
    with evaluation(second) as turn:
        reused = turn.reuse(identical(second))
        assert reused
        assert reused.evaluation_sha256 == digest
    with evaluation(third) as turn:
        assert turn.reuse(identical(third, LineageStatus(evaluation_dataset_sha256="d" * 64))) is None
        assert turn.folder.path.name == f"{digest[:12]}-uid-3-of"


def test_a_failed_evaluation_leaves_the_trainings_folder_as_it_was(tmp_path: Path) -> None:
    config = job(tmp_path)
    folder = finish(config)

    def fail() -> None:
        with open_evaluation(config, folder, read_whole(config)):
            raise StageError(Reason.DATASET_NOT_FOUND, "gone")

    with pytest.raises(StageError):
        fail()
    assert [path.name for path in folder.path.iterdir()] == ["result.json"]


def test_a_trained_folder_is_found_by_whoever_shares_it_and_not_when_it_is_damaged(tmp_path: Path) -> None:
    first, second = job(tmp_path), job(tmp_path, uid="uid-2-of-a-job")
    assert find_trained(first, read_whole(first)) is None
    folder = finish(first)
    found = find_trained(second, read_whole(second))
    assert found
    assert found[0] == folder
    own = finish(second)
    found = find_trained(second, read_whole(second))
    assert found
    assert found[0] == own
    (own.path / "damaged").touch()
    assert find_trained(second, read_whole(second)) is None


def test_a_result_of_another_digest_with_the_same_first_digits_is_another_jobs(tmp_path: Path) -> None:
    first = job(tmp_path)
    finish(first)
    collision = first.training_sha256[:12] + "0" * 52
    second = first.model_copy(
        update={"training_sha256": collision, "job": JobReference(namespace="ml", name="b", uid="uid-2-of-a-job")}
    )
    with training(second) as turn:
        assert turn.reuse(lambda _: True) is None
        assert turn.folder.path.name == f"{collision[:12]}-uid-2-of"


def test_checkpoints_on_the_outputs_own_claim_lie_in_the_run_and_nowhere_else(tmp_path: Path) -> None:
    config = job(tmp_path, training={"checkpoint": {"claimName": "work"}})
    with training(config) as turn:
        assert checkpoints_of(config, turn.folder).path == turn.folder.path / "checkpoints"
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoints_on_another_claim_have_the_name_of_their_run_there(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    claims = {"work": tmp_path / "work", "scratch": tmp_path / "scratch"}
    config = run_config({**SPEC, "training": {"checkpoint": {"claimName": "scratch"}}}, claims)
    with training(config) as turn:
        run = turn.folder.path.name
        assert checkpoints_of(config, turn.folder).path == tmp_path / "scratch/checkpoints/work/out" / run
    assert list((tmp_path / "scratch/checkpoints").iterdir()) == []  # and no probe is left
