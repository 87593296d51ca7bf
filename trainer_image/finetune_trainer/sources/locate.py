"""Where each source of a spec lies: parsed once, claims turned into paths, hub revisions into commits."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.dataset import Dataset, DatasetSpec
from finetune_api.held_out import EvaluationDatasetSpec
from finetune_api.mixture import MAIN, MixtureSpec
from finetune_api.model import AdapterSource, ModelSpec
from finetune_api.reasons import Reason
from finetune_api.replay import REPLAY, ReplaySpec
from finetune_api.uris import BucketPath, ClaimPath, HubSource, parse_source
from finetune_api.validation import held_out_of
from finetune_trainer.sources.claim import claim_rows
from finetune_trainer.sources.credentials import credentials_of
from finetune_trainer.sources.hub import HubRows, resolve_revision
from finetune_trainer.sources.model import ModelSource, fingerprint
from finetune_trainer.sources.pins import Pins
from finetune_trainer.sources.rows import RowSource
from finetune_trainer.sources.s3 import bucket_rows, download_model
from finetune_trainer.stage.failure import StageError

HELD_OUT, RETENTION, VALIDATION = "spec.evaluation.dataset", "spec.evaluation.retention", "spec.dataset.validation"

AnyRows = DatasetSpec | MixtureSpec | ReplaySpec | EvaluationDatasetSpec


@dataclass(frozen=True)
class Sources:
    """Everything that a run reads."""

    model: ModelSource
    adapter: ModelSource | None  # that training continues from, or that is evaluated alone
    # By the dataset's name in the mixture, spec.dataset itself first, replay last; none where nothing is trained.
    training: dict[str, RowSource]
    validation: RowSource | None  # of its own
    held_out: RowSource | None
    retention: RowSource | None
    slices: dict[str, RowSource] = field(default_factory=dict)  # of the evaluation, with rows of their own, by name

    @property
    def commits(self) -> dict[str, str]:
        """Commits of hub datasets by name: those that are trained on, and fields of the others."""
        others = {VALIDATION: self.validation, HELD_OUT: self.held_out, RETENTION: self.retention}
        named = {**self.training, **others}
        return {name: one.commit for name, one in named.items() if one and one.commit}

    @property
    def slice_commits(self) -> dict[str, str]:
        """Commits of the slices' hub datasets, by name."""
        return {name: one.commit for name, one in self.slices.items() if one.commit}


def locate(config: RunConfig, earlier: Pins | None, with_weights: bool = True) -> Sources:
    """Finds all sources of a run. Without weights the model is good for its tokenizer only, and has no fingerprint.

    ``earlier`` says which commits an earlier attempt resolved: those are taken again. Raises StageError: InvalidSpec,
    ModelNotFound, DatasetNotFound or DatasetInvalid for what isn't there, CredentialsRejected.
    """
    spec = config.spec
    same_evaluation = earlier is not None and earlier.evaluation_sha256 == config.evaluation_sha256
    pinned = earlier or Pins(job_uid="", training_sha256="")
    model = _model(config, pinned.model_revision, with_weights)
    adapter = _adapter(config, spec.model.adapter, pinned.adapter_revision) if spec.model.adapter else None
    training = _training(config, spec.dataset, pinned) if spec.dataset else {}
    validation = held_out = retention = None
    if spec.dataset and spec.dataset.validation and (rows := held_out_of(spec.dataset.validation)):
        validation = _rows(config, rows, VALIDATION, pinned.mixture_revisions.get(VALIDATION))
    if spec.evaluation:
        commit = pinned.evaluation_dataset_revision if same_evaluation else None
        held_out = _rows(config, spec.evaluation.dataset, HELD_OUT, commit)
    if spec.evaluation and spec.evaluation.retention:
        commit = pinned.mixture_revisions.get(RETENTION) if same_evaluation else None
        retention = _rows(config, spec.evaluation.retention, RETENTION, commit)
    slices = {}
    for part in (spec.evaluation.slices or ()) if spec.evaluation else ():
        if part.dataset:
            commit = pinned.slice_revisions.get(part.name) if same_evaluation else None
            slices[part.name] = _rows(config, part.dataset, slice_field(part.name), commit)
    return Sources(model, adapter, training, validation, held_out, retention, slices)


def slice_field(name: str) -> str:
    """Where a slice's rows stand in the spec."""
    return f"spec.evaluation.slices[{name}].dataset"


def _training(config: RunConfig, dataset: Dataset, pinned: Pins) -> dict[str, RowSource]:
    """All rows that are trained on."""
    found = {MAIN: _rows(config, dataset, "spec.dataset", pinned.dataset_revision)}
    for one in dataset.mixture:
        field = f"spec.dataset.mixture[{one.name}]"
        found[one.name] = _rows(config, one, field, pinned.mixture_revisions.get(one.name))
    if dataset.replay:
        found[REPLAY] = _rows(config, dataset.replay, "spec.dataset.replay", pinned.mixture_revisions.get(REPLAY))
    return found


def _model(config: RunConfig, commit: str | None, with_weights: bool) -> ModelSource:
    """The base model. Raises StageError (ModelNotFound) when a source is not a folder with a model in it."""
    kind = _Kind("spec.model", "config.json", "save_pretrained")
    return _weights(config, config.spec.model, commit, kind, config.trust_remote_code, with_weights)


def _adapter(config: RunConfig, spec: AdapterSource, commit: str | None) -> ModelSource:
    """An earlier adapter. Raises StageError (ModelNotFound) when a source is not a folder with one in it."""
    return _weights(config, spec, commit, _Kind("spec.model.adapter", "adapter_config.json", "PEFT"))


@dataclass(frozen=True)
class _Kind:
    """What a folder of weights must be."""

    field: str  # of the spec
    settings: str  # the file that it is known by
    writer: str


def _weights(
    config: RunConfig,
    spec: ModelSpec | AdapterSource,
    commit: str | None,
    kind: _Kind,
    trust_remote_code: bool = False,
    with_weights: bool = True,
) -> ModelSource:
    location, credentials = parse_source(spec.source), credentials_of(config, spec.secret_ref)
    if isinstance(location, HubSource):
        token = credentials.hub_token
        commit = commit or resolve_revision(location, spec.revision, "model", token)
        return ModelSource(location.repository, commit, trust_remote_code, token=token)
    if isinstance(location, BucketPath):
        path = download_model(location, credentials, _downloads(config), with_weights, kind.settings, kind.writer)
    else:
        path = _path(config, location, f"{kind.field}.source", Reason.MODEL_NOT_FOUND)
    if not (path / kind.settings).is_file():
        found = f"has no {kind.settings}" if path.is_dir() else "is not there"
        raise StageError(
            Reason.MODEL_NOT_FOUND,
            f"{spec.source} {found}: it must be a folder that {kind.writer} wrote",
            f"check {kind.field}.source and its revision",
        )
    return ModelSource(str(path), None, trust_remote_code, fingerprint(path) if with_weights else None)


def _downloads(config: RunConfig) -> Path:
    """Where models from buckets go: on the cache claim, or in the pod's scratch space."""
    return Path(config.cache_directory or tempfile.gettempdir()) / "finetune-downloads"


def _rows(config: RunConfig, spec: AnyRows, field: str, commit: str | None) -> RowSource:
    location, credentials = parse_source(spec.source), credentials_of(config, spec.secret_ref)
    if isinstance(location, ClaimPath):
        path = _path(config, location, f"{field}.source", Reason.DATASET_NOT_FOUND)
        return claim_rows(path, spec.source, spec.split, field)
    if isinstance(location, BucketPath):
        return bucket_rows(location, spec.split, field, credentials)
    token = credentials.hub_token
    commit = commit or resolve_revision(location, spec.revision, "dataset", token)
    return HubRows(spec.source, spec.split, field, location.repository, commit, spec.config, token)


def _path(config: RunConfig, location: ClaimPath, field: str, reason: Reason) -> Path:
    try:
        return config.local_path(location)
    except ValueError as error:
        raise StageError(reason, f"{field} {location}: {error}") from error
