"""Decides the folder that a stage writes to, and holds it against other writers.

Jobs of one training share a folder (finetune_api.run_folder). What a status has recorded by digest never changes:

- this job's own folder is there, or the shared one is free or this job's: that one
- the shared folder holds another job's result: reused where it is identical, and else the job's own folder
- another job writes to the shared folder: the job's own folder; if that writer died, the shared one is taken over
- another pod of this very job still writes: FolderBusy
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from finetune_api import run_folder as naming
from finetune_api.config import RunConfig
from finetune_api.reasons import Reason, Retry, failure_class
from finetune_api.results import StageResult
from finetune_api.sources import claims_written
from finetune_api.stages import EVALUATE
from finetune_api.uris import ClaimPath, parse_claim
from finetune_trainer.stage import writer_lock
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError, failure_of
from finetune_trainer.stage.files import remove_drafts
from finetune_trainer.stage.result import read_result, reused
from finetune_trainer.stage.storage import CHECKPOINT_CLAIM, DESTINATION, check_destination

# What a stage writes before it computes anything.
_BEFORE_STEPS = (naming.LOCK, naming.SPEC, naming.DATASET)


@dataclass(frozen=True)
class Folder:
    """A folder with one stage's artefacts, as this pod sees it and as others name it."""

    path: Path
    uri: ClaimPath

    @property
    def lock(self) -> Path:
        """What the inputs were resolved to."""
        return self.path / naming.LOCK

    @property
    def result(self) -> Path:
        return self.path / naming.RESULT

    @property
    def spec(self) -> Path:
        """The resolved spec, for whoever compares runs or evaluates again."""
        return self.path / naming.SPEC


@dataclass(frozen=True)
class RunFolder(Folder):
    """Where a training's artefacts lie."""

    @property
    def adapter(self) -> Path:
        return self.path / naming.ADAPTER

    @property
    def adapter_uri(self) -> str:
        return str(self.uri / naming.ADAPTER)

    @property
    def model(self) -> Path:
        return self.path / naming.MODEL

    @property
    def model_uri(self) -> str:
        return str(self.uri / naming.MODEL)

    @property
    def metrics(self) -> Path:
        return self.path / naming.METRICS

    @property
    def metrics_uri(self) -> str:
        return str(self.uri / naming.METRICS)

    @property
    def dataset(self) -> Path:
        return self.path / naming.DATASET

    @property
    def dataset_uri(self) -> str:
        return str(self.uri / naming.DATASET)


@dataclass(frozen=True)
class EvaluationFolder(Folder):
    """Where an evaluation's artefacts lie, inside the folder of what it evaluates."""

    @property
    def report(self) -> Path:
        return self.path / naming.REPORT

    @property
    def report_uri(self) -> str:
        return str(self.uri / naming.REPORT)

    @property
    def page(self) -> Path:
        return self.path / naming.PAGE

    @property
    def page_uri(self) -> str:
        return str(self.uri / naming.PAGE)


F = TypeVar("F", bound=Folder)
# The result in a folder if all of its artefacts are whole, whichever job it is of.
ReadWhole = Callable[[F], StageResult | None]


@dataclass
class Turn(Generic[F]):
    """A stage's turn in its folder. ``done`` is this job's own whole result, from an earlier attempt."""

    config: RunConfig
    shared: F
    own: F
    read_whole: ReadWhole[F]
    done: StageResult | None = None
    _folder: F | None = None
    _lock: writer_lock.WriterLock | None = field(default=None, repr=False)

    @property
    def folder(self) -> F:
        """Where this stage writes. Settled at once, unless another job's result must be compared first."""
        assert self._folder, "reuse() settles the folder of a job that meets another's result"
        return self._folder

    @property
    def earlier_lock(self) -> Path:
        """Where an earlier attempt of this job noted its inputs, if there was one."""
        return (self._folder or self.own).lock

    def reuse(self, is_identical: Callable[[StageResult], bool]) -> StageResult | None:
        """An identical job's whole result as this job's own, or None once the folder to write to is settled."""
        if self._folder:
            return None
        theirs = self.read_whole(self.shared)
        if theirs and is_identical(theirs):
            say(f"reused: an identical job's result in {self.shared.uri}")
            return reused(theirs, self.config)
        say(f"{self.shared.uri} holds another job's result, which this one differs from: writing to {self.own.uri}")
        self._enter(self.own)
        return None

    def confirm(self) -> None:
        """Raises StageError (FolderBusy) when another writer took the folder over. Asked before artefacts appear."""
        if self._lock:
            self._lock.confirm()

    def begin(self) -> None:
        uid = self.config.job.uid
        if self.own.path.is_dir():
            return self._enter(self.own)
        there = read_result(self.shared.result)
        if there and there.job_uid != uid:
            return None
        writer = self._take(self.shared)
        if writer:
            say(f"{self.shared.uri} is being written by another job: writing to {self.own.uri}")
            return self._enter(self.own)
        there = read_result(self.shared.result)  # whoever had the lock until now may have finished
        if there and there.job_uid != uid:
            return self.end(None)
        return self._settle(self.shared)

    def end(self, error: BaseException | None) -> None:
        """Gives the folder free. A job that will not be tried again leaves nothing behind but artefacts."""
        if self._lock is None:
            return
        folder = self._lock.path.parent
        final = error is not None and failure_class(failure_of(error).reason).retry is Retry.NEVER
        with suppress(OSError):  # whatever it is, it must not hide the error
            if final and {entry.name for entry in folder.iterdir()} <= {writer_lock.WRITER, *_BEFORE_STEPS}:
                for name in _BEFORE_STEPS:
                    (folder / name).unlink(missing_ok=True)
        self._lock.release()
        self._lock = None
        with suppress(OSError):  # not empty
            folder.rmdir()
            if folder.parent.name == naming.EVALUATIONS:
                folder.parent.rmdir()
                folder.parent.parent.rmdir()  # of a job that trains nothing

    def _enter(self, folder: F) -> None:
        if self._take(folder):
            raise AssertionError("a folder that carries this job's UID has another job's writer")
        self._settle(folder)

    def _settle(self, folder: F) -> None:
        self._folder = folder
        there = self.read_whole(folder)
        self.done = there if there and there.job_uid == self.config.job.uid else None
        if not self.done:
            remove_drafts(folder.path)

    def _take(self, folder: F) -> writer_lock.Writer | None:
        """Takes a folder's lock; the other job's writer where there is one. Raises StageError (FolderBusy)."""
        folder.path.mkdir(parents=True, exist_ok=True)
        taken = writer_lock.take(folder.path, self.config.job.uid)
        if isinstance(taken, writer_lock.WriterLock):
            self._lock = taken
            return None
        if taken.job_uid == self.config.job.uid:
            raise StageError(
                Reason.FOLDER_BUSY,
                f"another pod or run of this job still writes to {folder.uri}",
                "a pod starts again by itself; if it lasts, remove the node that the earlier pod is on; a run by hand: "
                "run it again when the other has ended",
            )
        return taken


@contextmanager
def open_training(config: RunConfig, read_whole: ReadWhole[RunFolder]) -> Iterator[Turn[RunFolder]]:
    """The training's turn in its folder.

    Raises StageError: InvalidSpec, StorageUnsuitable or StorageFull for a destination that can't be used, FolderBusy
    while another pod of this job writes.
    """
    check_destination(_path(config, parse_claim(config.spec.output.destination)), config.spec.output.destination)
    for claim in claims_written(config.spec)[1:]:
        check_destination(_path(config, naming.checkpoint_root(claim), CHECKPOINT_CLAIM), claim, CHECKPOINT_CLAIM)
    yield from _turn(Turn(config, *_run_folders(config), read_whole))


@contextmanager
def open_evaluation(
    config: RunConfig, trained: RunFolder, read_whole: ReadWhole[EvaluationFolder]
) -> Iterator[Turn[EvaluationFolder]]:
    """The evaluation's turn in its folder inside ``trained``. Raises StageError as :func:`open_training` does."""
    assert config.evaluation_sha256, "the evaluation stage runs only for a spec with an evaluation"
    check_destination(trained.path, str(trained.uri))
    uri = naming.evaluation_folder(trained.uri, config.evaluation_sha256)
    own = ClaimPath(uri.claim, uri.path.with_name(f"{uri.path.name}-{config.job.uid[:8]}"))
    shared, mine = (EvaluationFolder(_path(config, one), one) for one in (uri, own))
    yield from _turn(Turn(config, shared, mine, read_whole))


def checkpoints_of(config: RunConfig, run: RunFolder) -> Folder:
    """Where the checkpoints of a training lie while it lasts."""
    uri = naming.checkpoint_folder(run.uri, config.spec.training.checkpoint.claim_name)
    return Folder(_path(config, uri, CHECKPOINT_CLAIM), uri)


def find_trained(config: RunConfig, read_whole: ReadWhole[RunFolder]) -> tuple[RunFolder, StageResult] | None:
    """The folder and the result of this job's training, which may be an identical job's; None when it isn't whole."""
    shared, own = _run_folders(config)
    folder = own if own.path.is_dir() else shared
    result = read_whole(folder)
    return (folder, result) if result else None


def evaluated_folder(config: RunConfig) -> RunFolder:
    """The folder of what is evaluated without a training: its evaluations lie there, and nothing else."""
    return _run_folders(config)[0]


def belongs(result: StageResult, config: RunConfig) -> bool:
    """Whether a result in a folder is of this spec's digests. Its first digits name the folder, all of them count."""
    evaluation = config.evaluation_sha256 if result.stage == EVALUATE.name else None
    return result.belongs_to(result.stage, result.job_uid, config.training_sha256, evaluation)


def _turn(turn: Turn[F]) -> Iterator[Turn[F]]:
    try:
        turn.begin()
        yield turn
    except BaseException as error:
        turn.end(error)
        raise
    turn.end(None)


def _run_folders(config: RunConfig) -> tuple[RunFolder, RunFolder]:
    destination, digest = config.spec.output.destination, config.training_sha256
    shared, own = naming.run_folder(destination, digest), naming.own_folder(destination, digest, config.job.uid)
    return RunFolder(_path(config, shared), shared), RunFolder(_path(config, own), own)


def _path(config: RunConfig, location: ClaimPath, field: str = DESTINATION) -> Path:
    try:
        return config.local_path(location)
    except ValueError as error:
        raise StageError(Reason.INVALID_SPEC, f"{field}: {error}") from error
