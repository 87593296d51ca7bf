"""Where each source of a spec lies: parsed once, claims turned into paths, hub revisions into commits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.dataset import DatasetSpec, EvaluationDatasetSpec
from finetune_api.reasons import Reason
from finetune_api.uris import ClaimPath, HubSource, parse_source
from finetune_trainer.sources.dataset import DatasetSource
from finetune_trainer.sources.hub import resolve_revision
from finetune_trainer.sources.model import ModelSource, fingerprint
from finetune_trainer.sources.pins import Pins
from finetune_trainer.stage.failure import StageError


@dataclass(frozen=True)
class Sources:
    """Everything that a run reads."""

    model: ModelSource
    training: DatasetSource
    held_out: DatasetSource | None


def locate(config: RunConfig, earlier: Pins | None) -> Sources:
    """Finds all sources of a run.

    ``earlier`` says which commits an earlier attempt resolved: those are taken again. Raises StageError: InvalidSpec,
    ModelNotFound or DatasetNotFound, for what isn't there.
    """
    spec = config.spec
    same_evaluation = earlier is not None and earlier.evaluation_sha256 == config.evaluation_sha256
    return Sources(
        model=_model(config, earlier.model_revision if earlier else None),
        training=_dataset(config, spec.dataset, "spec.dataset", earlier.dataset_revision if earlier else None),
        held_out=_dataset(
            config,
            spec.evaluation.dataset,
            "spec.evaluation.dataset",
            earlier.evaluation_dataset_revision if earlier and same_evaluation else None,
        )
        if spec.evaluation
        else None,
    )


def _model(config: RunConfig, commit: str | None) -> ModelSource:
    """The base model. Raises StageError (ModelNotFound) when a pvc:// source is not a folder with a model in it."""
    spec = config.spec.model
    location = parse_source(spec.source)
    if isinstance(location, HubSource):
        commit = commit or resolve_revision(location, spec.revision, "model")
        return ModelSource(location.repository, commit, config.trust_remote_code)
    path = _path(config, location, "spec.model.source", Reason.MODEL_NOT_FOUND)
    if not (path / "config.json").is_file():
        found = "has no config.json" if path.is_dir() else "is not there"
        raise StageError(
            Reason.MODEL_NOT_FOUND, f"{spec.source} {found}: it must be a folder that save_pretrained wrote"
        )
    return ModelSource(str(path), None, config.trust_remote_code, fingerprint(path))


def _dataset(
    config: RunConfig, spec: DatasetSpec | EvaluationDatasetSpec, name: str, commit: str | None
) -> DatasetSource:
    location = parse_source(spec.source)
    if isinstance(location, ClaimPath):
        path = _path(config, location, f"{name}.source", Reason.DATASET_NOT_FOUND)
        return DatasetSource(spec.source, spec.split, name, path=path)
    commit = commit or resolve_revision(location, spec.revision, "dataset")
    return DatasetSource(spec.source, spec.split, name, location.repository, commit, spec.config)


def _path(config: RunConfig, location: ClaimPath, field: str, reason: Reason) -> Path:
    try:
        return config.local_path(location)
    except ValueError as error:
        raise StageError(reason, f"{field} {location}: {error}") from error
