"""Checkpoints of a run: written whole or not at all, checked before they are read, thrown away when they are old.

A checkpoint is a folder ``checkpoints/step-<number>`` with ``state.safetensors`` (weights that are trained, in their
type, the optimizer's moments, random states), ``state.json`` (everything else) and a manifest with a digest of both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from finetune_api.base import ApiModel, Sha256
from finetune_trainer.stage.console import say
from finetune_trainer.stage.files import new_folder, read_manifest, remove_drafts, write_text
from finetune_trainer.training.packing import Layout
from finetune_trainer.training.plan import Checkpointing
from finetune_trainer.training.reporter import LoggedStep
from finetune_trainer.training.stopping import Measured

if TYPE_CHECKING:
    from torch import Tensor

    from finetune_trainer.training.engines.base import StepperState

_TENSORS, _VALUES = "state.safetensors", "state.json"
_PREFIX = "step-"


class Identity(ApiModel):
    """What a checkpoint must have in common with a run that goes on from it."""

    training_sha256: Sha256
    dataset_sha256: Sha256
    model_revision: str | None = None
    model_sha256: str | None = None
    adapter_revision: str | None = None
    adapter_sha256: str | None = None
    # What was measured on the way counts for these rows, and so does what was best.
    validation_dataset_sha256: str | None = None
    retention_dataset_sha256: str | None = None
    engine: str


class SavedPlan(ApiModel):
    """What the first attempt chose for its device. A later one obeys, or its sums would be rounded otherwise."""

    device: str
    packages: str
    micro_batch: int
    checkpointing: Checkpointing
    packed: Layout | None = None
    packing: str


class CheckpointState(ApiModel):
    """Where a run stands, beside its tensors. Order of rows and learning rate follow from the step."""

    version: Literal[1] = 1
    identity: Identity
    step: Annotated[int, Field(ge=0)]
    plan: SavedPlan
    tokens: int = 0  # through the model so far, padding left out
    computed_tokens: int = 0  # padding with them
    seconds: float = 0.0  # of training, over all attempts
    memory_retries: int = 0  # over all attempts
    history: list[LoggedStep] = []
    measured: list[Measured] = []
    best_step: int | None = None  # of the checkpoint whose weights are the best so far
    unlogged: list[float] = []  # losses of the steps since the last of these
    stepper: dict[str, Any] = {}  # StepperState.values


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint of this run."""

    path: Path
    state: CheckpointState

    def stepper_state(self) -> StepperState:
        """Its tensors, read from the disk."""
        from safetensors.torch import load_file

        from finetune_trainer.training.engines.base import StepperState

        return StepperState(dict(load_file(self.path / _TENSORS)), self.state.stepper)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run folder. ``keep`` is how many of the newest stay."""

    folder: Path
    identity: Identity
    keep: int

    def newest(self) -> Checkpoint | None:
        """The last checkpoint that is whole and of this run; says why others are passed over."""
        for path in self._paths():
            problem = "incomplete or damaged"
            if read_manifest(path) is not None:
                try:
                    state = CheckpointState.model_validate_json((path / _VALUES).read_bytes())
                except (OSError, ValidationError):
                    problem = "of another version of the trainer"
                else:
                    if state.identity != self.identity:
                        problem = "of another run: " + _difference(state.identity, self.identity)
                    elif state.best_step not in (None, state.step) and not self.read(state.best_step or 0):
                        problem = f"without the best one before it, of step {state.best_step}"
                    else:
                        return Checkpoint(path, state)
            say(f"checkpoint {path.name} is {problem}; it is passed over")
        return None

    def read(self, step: int) -> Checkpoint | None:
        """The checkpoint of a step, if it is whole and of this run."""
        path = self._path(step)
        if read_manifest(path) is None:
            return None
        try:
            state = CheckpointState.model_validate_json((path / _VALUES).read_bytes())
        except (OSError, ValidationError):
            return None
        return Checkpoint(path, state) if state.identity == self.identity else None

    def write(self, state: CheckpointState, tensors: StepperState) -> Checkpoint:
        """Writes a checkpoint, then removes those that are too old. Raises OSError, and leaves no half."""
        from safetensors.torch import save_file

        path = self._path(state.step)
        self.folder.mkdir(parents=True, exist_ok=True)
        state = state.model_copy(update={"stepper": tensors.values})
        with new_folder(path) as draft:
            save_file(_apart(tensors.tensors), draft / _TENSORS)
            write_text(draft / _VALUES, state.model_dump_json(by_alias=True))
        self._prune(path)
        return Checkpoint(path, state)

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint that has its name, which it gets when it is whole."""
        return next((int(path.name.removeprefix(_PREFIX)) for path in self._paths()), None)

    def remove_drafts(self) -> None:
        """Removes what a killed attempt left half-written."""
        if self.folder.is_dir():
            remove_drafts(self.folder)

    def _prune(self, written: Path) -> None:
        # What lies ahead of the newest is of an attempt that got further, and whose end is being repeated.
        older = [path for path in self._paths() if path.name <= written.name]
        best = {self._path(step) for path in older[: self.keep] if (step := _best_of(path)) is not None}
        for path in older[self.keep :]:
            if path not in best:
                with suppress(OSError):
                    shutil.rmtree(path)

    def _path(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08}"

    def _paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob(f"{_PREFIX}*"), reverse=True)


def _best_of(path: Path) -> int | None:
    try:
        return CheckpointState.model_validate_json((path / _VALUES).read_bytes()).best_step
    except (OSError, ValidationError):
        return None


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own, as the file format wants it: bitsandbytes' moments share their code book."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        place = value.data_ptr()
        found[name] = value.clone() if place in seen else value.contiguous()
        seen.add(place)
    return found


def _difference(theirs: Identity, ours: Identity) -> str:
    fields = (name for name in Identity.model_fields if getattr(theirs, name) != getattr(ours, name))
    return f"its {', '.join(fields)} differ"
