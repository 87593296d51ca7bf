"""The folder that a run writes to, and where things lie in it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# The field itself is right, so the reason's own advice would mislead.
_OPEN_IT = (
    "have the administrator set fsGroup in the profile, or mount the claim read-write; then apply under a new name"
)


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
    except (FileExistsError, NotADirectoryError) as error:
        raise StageError(
            Reason.INVALID_SPEC, f"spec.output.destination {config.spec.output.destination} is no folder: {error}"
        ) from error
    except OSError as error:
        if error.errno not in _CLOSED:
            raise
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.output.destination {config.spec.output.destination} can't be written by this pod's user: {error}",
            _OPEN_IT,
        ) from error
    return RunFolder(folder)
