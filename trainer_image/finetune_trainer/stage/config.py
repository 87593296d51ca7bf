"""Reads the run configuration that the operator wrote."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from finetune_api.base import first_problem
from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError


def load_config(path: Path) -> RunConfig:
    """Reads a RunConfig from a JSON file. Raises StageError (InvalidSpec) that names the field."""
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StageError(
            Reason.INVALID_SPEC,
            f"can't read the run's configuration {path}: {error.strerror or error}",
            "name it with --config; a FineTuneJob in YAML is run by: finetune run FILE",
        ) from error
    except ValidationError as error:
        raise StageError(Reason.INVALID_SPEC, f"{path}: {first_problem(error)}") from error
