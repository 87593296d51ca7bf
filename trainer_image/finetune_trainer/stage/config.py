"""Reads the run configuration that the operator wrote."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError


def load_config(path: Path) -> RunConfig:
    """Reads a RunConfig from a JSON file. Raises StageError (InvalidSpec) that names the field."""
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StageError(Reason.INVALID_SPEC, f"can't read the run configuration: {error}") from error
    except ValidationError as error:
        raise StageError(Reason.INVALID_SPEC, f"{path}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """The first problem of a validation error in one line: the field's path, what is wrong, and how many more."""
    first, count = error.errors()[0], error.error_count()
    field = ".".join(str(part) for part in first["loc"]) or "the document"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}" + (f" (and {count - 1} more)" if count > 1 else "")
