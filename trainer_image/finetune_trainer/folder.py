"""The folder that a run writes to, and where things lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.failure import StageError


@dataclass(frozen=True)
class RunFolder:
    """``<destination>/<first 12 digits of specSha256>`` as this pod sees it."""

    path: Path

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock.json"

    @property
    def training_result(self) -> Path:
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def evaluation_result(self) -> Path:
        return self.report / "result.json"


def open_run_folder(config: RunConfig) -> RunFolder:
    """Makes the run's folder and checks that it can be written. Raises StageError (InvalidSpec) when it can't."""
    try:
        folder = config.local_path(config.run_uri)
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except ValueError as error:
        raise StageError(Reason.INVALID_SPEC, f"spec.output.destination: {error}") from error
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.output.destination {config.spec.output.destination} is no folder that this pod's user can write: "
            f"{error}",
        ) from error
    return RunFolder(folder)
