"""Evaluates what a run left once more, from its lineage: the same model, the same rows, nothing of the run changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from finetune_api.base import first_problem
from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.defaults import ResolvedSpec
from finetune_api.reasons import Reason
from finetune_api.results import EvaluationStatus, StageLineage, StageResult
from finetune_api.run_folder import ADAPTER, EVALUATIONS, MODEL, REPORT, RESULT
from finetune_api.sources import claims_read
from finetune_api.spec_file import restore_spec
from finetune_api.uris import ClaimPath, parse_claim
from finetune_trainer.finished_evaluation import FinishedEvaluation
from finetune_trainer.local_claims import check_named, mount
from finetune_trainer.models.methods import METHODS
from finetune_trainer.sources.pins import Pins
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import MANIFEST, damage_of, sha256_of_file
from finetune_trainer.stage.result import CPU, stage_lineage
from finetune_trainer.stage.run_folder import RunFolder

_RESTORE = "put the former back: figures can be verified on what they were measured on only"


@dataclass(frozen=True)
class Reevaluation:
    """What the evaluation came to this time, and on what."""

    evaluation: EvaluationStatus
    runner: StageLineage


def config_again(found: FinishedEvaluation, given: Mapping[str, Path], here: Path) -> RunConfig:
    """The configuration that the evaluation ran with, on folders of this machine.

    ``given`` are folders by claim; the claim of the run's output is wherever the run lies; ``here`` is where folders
    with the names of the other claims are looked for. It takes a GPU where the evaluation had one and there is one.
    Raises StageError (InvalidSpec) when a claim has no folder, or the spec is not the one that was evaluated.
    """
    at = _claim_of(found)
    destination = str(ClaimPath(at.claim, at.path.parent))
    try:
        spec = restore_spec(found.spec_text, destination, _gpus(found.runner.device))
    except ValidationError as error:
        raise _no_spec(first_problem(error)) from error
    except (ValueError, OSError) as error:
        raise _no_spec(str(error)) from error
    bare = _without_gates(spec)
    config = RunConfig(
        job=JobReference(namespace="default", name="verify", uid=found.result.job_uid),
        spec=bare,
        training_sha256=spec.training_sha256(),
        evaluation_sha256=spec.evaluation_sha256(),
        mounts=_mounts(bare, at, found.run, given, here),
    )
    digests = {
        "trainingSha256": (found.result.training_sha256, config.training_sha256),
        "evaluationSha256": (found.result.evaluation_sha256, config.evaluation_sha256),
    }
    for name, (then, now) in digests.items():
        if then != now:
            text = f"spec.json is not the spec that was evaluated ({name} {_short(then)} then, {_short(now)} now)"
            raise StageError(Reason.INVALID_SPEC, text, _RESTORE)
    return config


def reevaluate(found: FinishedEvaluation, config: RunConfig) -> Reevaluation:
    """Scores base and tuned as the evaluation did.

    Raises StageError: EvaluationFailed for a damaged artefact, ModelNotFound, DatasetNotFound or DatasetInvalid for a
    model or rows that are missing or are not those of the evaluation; and as the evaluation itself does.
    """
    from finetune_trainer.data.prepare import prepare_evaluation
    from finetune_trainer.evaluation.checks import checks_of
    from finetune_trainer.evaluation.evaluate import find_tuned, score
    from finetune_trainer.evaluation.measure import measure
    from finetune_trainer.evaluation.metrics import metrics_of
    from finetune_trainer.evaluation.report import About, evaluation_status

    run_folder = RunFolder(found.run, _claim_of(found))
    if found.training:
        _check_artefact(found, found.training, config.spec)
    inputs = prepare_evaluation(config, _commits_only(found.pins))
    _check_inputs(found.pins, inputs.pins, alone=found.training is None)
    evaluation = config.spec.evaluation
    assert evaluation, "the spec has the digest of one with an evaluation"
    evaluation = evaluation.model_copy(update={"judge": None})  # it is not asked again: its figures are its own
    tuned = find_tuned(config, inputs, run_folder)
    outcome, dropped = score(config, evaluation, inputs, tuned, lambda done, total: None)
    metrics = [*metrics_of(evaluation.metrics), *checks_of(evaluation.checks, inputs.terms)]
    measured = [measure(metric, outcome) for metric in metrics]
    about = About(dropped, inputs.shared)
    status = evaluation_status(outcome, measured, about, found.report.report_uri or "")
    return Reevaluation(status, stage_lineage(config, inputs.device.name))


def _claim_of(found: FinishedEvaluation) -> ClaimPath:
    """The run's folder as its result names it."""
    file, uri, depth = found.folder / RESULT, found.recorded.report_uri, len((EVALUATIONS, "<digest>", REPORT))
    if found.training:
        saved = found.training.adapter or found.training.model
        file, uri, depth = found.run / RESULT, saved.uri if saved else None, 1
    if uri is None:
        raise StageError(Reason.EVALUATION_FAILED, f"{file} names no artefact", _RESTORE)
    try:
        at = parse_claim(uri)
    except ValueError as error:
        raise StageError(Reason.EVALUATION_FAILED, f"{file}: {error}", _RESTORE) from error
    return ClaimPath(at.claim, at.path.parents[depth - 1])


def _without_gates(spec: ResolvedSpec) -> ResolvedSpec:
    """The same but for its gates: they follow from the figures, and an earlier report need not be there any more."""
    if spec.evaluation is None:
        return spec
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"gates": None})})


def _mounts(spec: ResolvedSpec, at: ClaimPath, run: Path, given: Mapping[str, Path], here: Path) -> list[ClaimMount]:
    read = claims_read(spec)
    check_named(given, (*read, at.claim))
    around = _root(run, at.path)
    folders = {**({at.claim: around} if around else {}), **given}
    return [mount(claim, folders.get(claim, here / claim)) for claim in read]


def _root(run: Path, path: PurePosixPath) -> Path | None:
    """The claim's root, if the run lies below it as its URI says; None for a run that was copied elsewhere."""
    count = len(path.parts)
    return run.parents[count - 1] if run.parts[-count:] == path.parts else None


def _gpus(device: str | None) -> int:
    if device == CPU:
        return 0
    import torch

    return int(torch.cuda.is_available())


def _check_artefact(found: FinishedEvaluation, training: StageResult, spec: ResolvedSpec) -> None:
    """Raises StageError (EvaluationFailed) unless what was evaluated is whole, and the one that the result names."""
    of_adapter = METHODS[spec.method].adapter
    told, name = (training.adapter, ADAPTER) if of_adapter else (training.model, MODEL)
    folder = found.run / name
    if told is None or not (folder / MANIFEST).is_file():
        raise StageError(Reason.EVALUATION_FAILED, f"there is no {name} in {found.run}", _RESTORE)
    manifest = sha256_of_file(folder / MANIFEST)
    if manifest != told.sha256:
        text = (
            f"the {name} is not the one that was evaluated (sha256 {_short(told.sha256)} then, {_short(manifest)} now)"
        )
        raise StageError(Reason.EVALUATION_FAILED, text, _RESTORE)
    if damage := damage_of(folder):
        text = f"the {name} is damaged: {damage.file} (sha256 {_short(damage.then)} then, {_short(damage.now)} now)"
        raise StageError(Reason.EVALUATION_FAILED, text, _RESTORE)


def _commits_only(pins: Pins) -> Pins:
    """Without digests of content, which are compared here: what a job is told to do about them differs."""
    content = (
        "model_sha256",
        "adapter_sha256",
        "evaluation_dataset_sha256",
        "retention_dataset_sha256",
        "check_terms_sha256",
    )
    return pins.model_copy(update={**dict.fromkeys(content), "slice_sha256": {}})


def _check_inputs(then: Pins, now: Pins, alone: bool) -> None:
    """Raises StageError for a model (ModelNotFound) or rows (DatasetInvalid) other than those of the evaluation.

    ``alone``: the adapter is of spec.model, and not one that a training went on from and replaced by its own.
    """
    adapter = (Reason.MODEL_NOT_FOUND, "the adapter is not the one", then.adapter_sha256, now.adapter_sha256)
    compared = (
        *([adapter] if alone else []),
        (Reason.MODEL_NOT_FOUND, "the base model is not the one", then.model_sha256, now.model_sha256),
        (
            Reason.DATASET_INVALID,
            "the held-out rows are not those",
            then.evaluation_dataset_sha256,
            now.evaluation_dataset_sha256,
        ),
        (
            Reason.DATASET_INVALID,
            "the retention rows are not those",
            then.retention_dataset_sha256,
            now.retention_dataset_sha256,
        ),
        (
            Reason.DATASET_INVALID,
            "the terms of evaluation.checks are not those",
            then.check_terms_sha256,
            now.check_terms_sha256,
        ),
        *(
            (Reason.DATASET_INVALID, f"the rows of slice {name} are not those", digest, now.slice_sha256.get(name))
            for name, digest in then.slice_sha256.items()
        ),
    )
    for reason, what, before, after in compared:
        if before and before != after:
            text = f"{what} of the evaluation (sha256 {_short(before)} then, {_short(after)} now)"
            raise StageError(reason, text, _RESTORE)


def _no_spec(problem: str) -> StageError:
    return StageError(Reason.INVALID_SPEC, f"can't read the evaluation's spec.json: {problem}", _RESTORE)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
