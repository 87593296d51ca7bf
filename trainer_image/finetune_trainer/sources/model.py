"""Where the base model lies for ``from_pretrained``: a hub name or a folder on a claim."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.uris import HubSource, parse_source
from finetune_trainer.stage.failure import StageError


@dataclass(frozen=True)
class ModelSource:
    """A model in the words of ``from_pretrained``. The adapter records ``name``, so mount paths must stay the same."""

    name: str
    revision: str | None
    trust_remote_code: bool


def find_model(config: RunConfig, revision: str) -> ModelSource:
    """The base model's name; ``revision`` is the resolved commit of a hub model.

    Raises StageError (ModelNotFound) when a pvc:// source is not a folder with a model in it.
    """
    source = config.spec.model.source
    location = parse_source(source)
    if isinstance(location, HubSource):
        return ModelSource(location.repository, revision, config.trust_remote_code)
    try:
        path = config.local_path(location)
    except ValueError as error:
        raise StageError(Reason.MODEL_NOT_FOUND, f"{source}: {error}") from error
    if not (path / "config.json").is_file():
        found = "has no config.json" if path.is_dir() else "is not there"
        raise StageError(Reason.MODEL_NOT_FOUND, f"{source} {found}: it must be a folder that save_pretrained wrote")
    return ModelSource(str(path), None, config.trust_remote_code)
