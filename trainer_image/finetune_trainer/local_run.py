"""A run without a cluster: the file that kubectl would apply, and folders in place of its claims."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from finetune_api import termination
from finetune_api.base import in_words
from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.defaults import ResolvedSpec, resolve
from finetune_api.gate_verdicts import gate_line, gates_failure
from finetune_api.job import FineTuneJob
from finetune_api.manifest import ManifestError, read_manifest
from finetune_api.names import CONFIG_FILE
from finetune_api.reasons import Reason, exit_code
from finetune_api.results import (
    DatasetStatus,
    FailureStatus,
    LatencyStatus,
    MetricStatus,
    MetricValue,
    RowCount,
    StageResult,
    TrainingStatus,
)
from finetune_api.sources import claims_read, claims_written
from finetune_api.stages import Stage, stages_of
from finetune_api.uris import parse_claim
from finetune_trainer.evaluation.judge.status import judge_lines
from finetune_trainer.local_claims import check_named, mount, parse_mounts
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError

DEFAULT_OUTPUT = "runs"


def read_job(file: Path) -> FineTuneJob:
    """The FineTuneJob in a file. Raises StageError (InvalidSpec) for what the API server would refuse, too."""
    try:
        return read_manifest(file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or error
        raise StageError(Reason.INVALID_SPEC, f"can't read {file}: {problem}", "name a FineTuneJob's file") from error
    except ManifestError as error:
        raise StageError(Reason.INVALID_SPEC, str(error), "correct it and run again") from error


def local_config(job: FineTuneJob, mounts: list[str], output: Path | None, here: Path) -> RunConfig:
    """The run configuration that the operator would write.

    ``mounts`` are ``CLAIM=FOLDER``; ``output`` stands in for the output's claim; ``here`` is where folders with the
    names of claims are looked for. Raises StageError (InvalidSpec) when a claim has no folder.
    """
    spec = resolve(job.spec)
    digest = spec.training_sha256()
    name = f"{job.metadata.namespace}/{job.metadata.name}/{digest}"
    return RunConfig(
        # The same training gives the same UID, so that a finished run is found again.
        job=JobReference(
            namespace=job.metadata.namespace, name=job.metadata.name, uid=str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        ),
        spec=spec,
        training_sha256=digest,
        evaluation_sha256=spec.evaluation_sha256(),
        mounts=_mounts(spec, parse_mounts(mounts), output, here),
    )


def run_locally(config: RunConfig) -> int:
    """Runs all stages, each in a process of its own as in a cluster, and says what came of it. Returns an exit code."""
    for one in config.mounts:
        say(f"claim {one.claim}: {one.path}")
    results: list[StageResult] = []
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        file, message = Path(scratch) / CONFIG_FILE, Path(scratch) / "result.json"
        file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
        for stage in stages_of(config.spec):
            code = _run_stage(stage, file, message)
            if code:
                return code
            if result := termination.decode(message.read_text()):
                results.append(result)
    for line in summary(config, results):
        say(line)
    failure = _gates_failure(config, results)
    if failure:
        say(f"{failure.reason}: {failure.message}")
        return exit_code(Reason(failure.reason))
    return 0


def _gates_failure(config: RunConfig, results: list[StageResult]) -> FailureStatus | None:
    """Why the gates fail the run, as they would the job."""
    gates = (config.spec.evaluation.gates if config.spec.evaluation else None) or []
    found = next((result.evaluation for result in results if result.evaluation), None)
    return gates_failure(found, len(gates)) if found else None


def _run_stage(stage: Stage, config: Path, message: Path) -> int:
    """Runs a stage's process. Returns the exit code that it gave; raises StageError when a signal ended it."""
    command = [sys.executable, "-m", "finetune_trainer", stage.command]
    options = ["--config", str(config), "--termination-log", str(message)]
    # Ctrl-C reaches the stage, too, which first brings its work into safety. A handler of ours, since a signal that is
    # ignored would be ignored by the stage.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        if shows_progress():
            from finetune_trainer.live_stage import run_with_bar

            code = run_with_bar([*command, *options], stage)
        else:
            code = subprocess.run([*command, *options], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    if code < 0:
        raise _ended_by(signal.Signals(-code), stage)
    return code


def _ended_by(number: signal.Signals, stage: Stage) -> StageError:
    """What a signal says that left the process no word of its own."""
    text = f"{stage.command} was ended by {number.name}"
    again = "run it again: a training goes on from its last checkpoint"
    if number in (signal.SIGINT, signal.SIGTERM):
        return StageError(Reason.INTERRUPTED, text, again)
    if number == signal.SIGKILL:
        text += ", perhaps by the kernel, because the host's memory ran out"
    return StageError(Reason.TRAINER_CRASHED, text, again)


def shows_progress() -> bool:
    """Whether standard output is a terminal that can draw a line again and again."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def summary(config: RunConfig, results: list[StageResult]) -> list[str]:
    """What a run came to, as a short table."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        if result.dataset:
            rows += _dataset_rows(result.dataset)
        if training := result.training:
            rows.append(("steps", str(training.steps), f"loss {training.first_loss} → {training.final_loss}"))
            rows += _course_rows(training)
            rows.append(("time", training.runtime or "", "reused" if result.reused else ""))
        if result.memory:
            rows.append(("memory", result.memory.summary, ""))
        if evaluation := result.evaluation:
            rows.append(("examples", str(evaluation.examples), "reused" if result.reused else ""))
            rows += [_metric_row(metric) for metric in evaluation.metrics]
            if kept := evaluation.retention:
                rows.append(("retention", f"{kept.examples} examples"))
                rows += [(f"  {name}", *cells) for name, *cells in map(_metric_row, kept.metrics)]
            for part in evaluation.slices:
                rows.append(("slice", part.name, f"{part.examples} examples", part.warning or ""))
                rows += [(f"  {name}", *cells) for name, *cells in map(_metric_row, part.metrics)]
            rows += [_latency_row(one) for one in evaluation.latency]
            rows += [("gate", gate_line(gate)) for gate in evaluation.gates]
            rows += [("judge", line) for line in (judge_lines(evaluation.judge) if evaluation.judge else ())]
    width = max((len(row[0]) for row in rows), default=0)
    lines = ["", *(f"{row[0]:<{width}}  {'  '.join(cell for cell in row[1:] if cell)}" for row in rows)]
    advice = {entry.reason: entry.message for result in results for entry in result.advice}
    lines += [f"advice: {message}" for message in advice.values()]
    artefacts = [("adapter", result.adapter.uri) for result in results if result.adapter]
    artefacts += [("model", result.model.uri) for result in results if result.model]
    artefacts += [
        ("report", result.evaluation.report_uri)
        for result in results
        if result.evaluation and result.evaluation.report_uri
    ]
    artefacts += [
        ("page", result.evaluation.page_uri) for result in results if result.evaluation and result.evaluation.page_uri
    ]
    return [*lines, *(f"{name}: {config.local_path(parse_claim(uri))}" for name, uri in artefacts)]


def _course_rows(training: TrainingStatus) -> list[tuple[str, ...]]:
    """What happened on the way: an earlier attempt that stopped, memory that ran out, rows that were only measured."""
    rows: list[tuple[str, ...]] = []
    if training.resumed_from_step:
        rows.append(("went on", f"from the checkpoint of step {training.resumed_from_step}"))
    if training.out_of_memory_retries:
        ran_out = f"GPU memory ran out {training.out_of_memory_retries}×"
        rows.append(("micro-batch", f"{training.micro_batch_size} rows at a time", ran_out))
    if training.validation_loss is not None:
        best = f"with the weights of step {training.best_step}" if training.best_step else ""
        rows.append(
            ("validation", f"loss {training.validation_loss}", best, "stopped early" if training.stopped_early else "")
        )
    if saved := training.retention_when_saved:
        rows.append(("retention", f"perplexity {training.retention[0].perplexity} → {saved.perplexity}"))
    return rows


def _dataset_rows(dataset: DatasetStatus) -> list[tuple[str, ...]]:
    """What was trained on: rows used of those read, what was left out and why, and where they come from."""
    rows: list[tuple[str, ...]] = [("rows", dataset.summary, "prepared by an earlier run" if dataset.cached else "")]
    dropped = [RowCount(name=in_words(one.name), rows=one.rows) for one in dataset.dropped]
    for name, counts in (("left out", dropped), ("mixture", dataset.sources), ("from", dataset.provenance)):
        if counts:
            rows.append((name, ", ".join(f"{one.rows:,} {one.name}" for one in counts), ""))
    return rows


def _latency_row(one: LatencyStatus) -> tuple[str, ...]:
    first, speed = f"first token {one.first_token_milliseconds} ms", f"then {one.tokens_per_second} tokens/s"
    return f"{one.name.lower()} ({one.precision})", first, speed


def _metric_row(metric: MetricStatus) -> tuple[str, ...]:
    if metric.omitted:
        return metric.name, f"left out: {metric.omitted}"
    shown = [f"{name} {_value(value)}" for name, value in (("base", metric.base), ("tuned", metric.tuned)) if value]
    return metric.name, *shown, f"p = {metric.p_value}" if metric.p_value else "", _adjusted(metric)


def _adjusted(metric: MetricStatus) -> str:
    return f"({metric.adjusted_p_value} adjusted for the number of slices)" if metric.adjusted_p_value else ""


def _value(value: MetricValue) -> str:
    bounds = f" [{value.interval95.low}, {value.interval95.high}]" if value.interval95 else ""
    return f"{value.value}{bounds}"


def _make(folder: Path) -> None:
    """A folder for the output. Raises StageError (InvalidSpec) where none can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = "a file is there" if isinstance(error, FileExistsError) else error.strerror
        raise StageError(
            Reason.INVALID_SPEC, f"can't make the output's folder {folder}: {problem}", "name another with --output"
        ) from error


def _mounts(spec: ResolvedSpec, given: dict[str, Path], output: Path | None, here: Path) -> list[ClaimMount]:
    """A folder for each claim of the spec. Raises StageError (InvalidSpec) for a claim that has none."""
    read = claims_read(spec)
    written, *checkpoints = claims_written(spec)
    check_named(given, (*read, written, *checkpoints))
    if output and (written in read or written in given):
        raise StageError(
            Reason.INVALID_SPEC,
            f"--output: the output's claim {written!r} is {'read from, too' if written in read else 'mounted already'}",
            f"give --mount {written}=FOLDER alone",
        )
    mounts = []
    for claim in dict.fromkeys((*read, written)):
        folder = given.get(claim, here / claim)
        if claim == written and (output or (claim not in given and claim not in read and not folder.is_dir())):
            folder = output or here / DEFAULT_OUTPUT
            _make(folder)
        mounts.append(mount(claim, folder))
    for claim in checkpoints:
        if claim not in read:
            folder = given.get(claim, here / claim)
            beside = Path(next(one.path for one in mounts if one.claim == written))
            mounts.append(mount(claim, folder if claim in given or folder.is_dir() else beside))
    return mounts
