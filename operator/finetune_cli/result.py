"""The end of a job, printed once: what came out of it, or why nothing did."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_api.job import FineTuneJob
from finetune_api.reasons import FAILURES
from finetune_api.results import (
    Advice,
    ArtefactStatus,
    DatasetStatus,
    FailureStatus,
    LineageStatus,
    MemoryStatus,
    RowCount,
    TrainingStatus,
)
from finetune_api.run_folder import DIGEST_LENGTH
from finetune_api.stages import STAGES
from finetune_api.status import REUSED
from finetune_cli import text
from finetune_cli.scores import render_evaluation
from finetune_cli.view import elapsed, waited

LABEL_WIDTH = 14


def render(job: FineTuneJob) -> RenderableType:
    """The printed result of a job that has its verdict."""
    parts: list[RenderableType] = [_heading(job)]
    if not job.status.holds("Succeeded"):
        parts += [Text(), _failure(job)]
    if facts := _facts(job):
        parts += [Text(), labelled(facts)]
    if job.status.evaluation:
        parts += [Text(), render_evaluation(job.status.evaluation)]
    if job.status.advice:
        parts += [Text(), Text("Advice", "bold"), *(_advice(one) for one in job.status.advice)]
    return Group(*parts)


def labelled(rows: list[tuple[str, RenderableType]]) -> Table:
    """Names in a narrow first column, values folded in the second."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=LABEL_WIDTH, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _heading(job: FineTuneJob) -> Text:
    name = f"{job.metadata.namespace}/{job.metadata.name}"
    spent = elapsed(job, job.status.completion_time) if job.status.completion_time else ""
    pause = f" ({waited(job)} of it waiting for a pod)" if waited(job) else ""
    after = f" after {spent}{pause}" if spent else ""
    if job.status.holds("Succeeded"):
        return Text.assemble(("✔ ", "bold green"), text.text(name, "bold"), f" succeeded{after}")
    return Text.assemble(("✘ ", "bold red"), text.text(name, "bold"), f" failed{after}")


def _failure(job: FineTuneJob) -> RenderableType:
    failure = job.status.failure
    verdict = job.status.condition("Succeeded")
    if failure is None:  # an operator of another version
        return text.text(f"{verdict.reason}: {verdict.message}" if verdict else "no reason given", "red")
    rows: list[tuple[str, RenderableType]] = [
        ("reason", _reason(failure)),
        ("message", text.text(failure.message)),
    ]
    known = FAILURES.get(failure.reason)
    if known and known.advice not in failure.message:
        rows.append(("what to do", text.text(known.advice, "bold")))
    if job.status.attempts:
        rows.append(("attempts", _attempts(job)))
    table = labelled(rows)
    log = (failure.log or "").strip("\n")
    return Group(table, Text(), *_log(log)) if log.strip() else table


def _reason(failure: FailureStatus) -> Text:
    code = f" (exit code {failure.exit_code})" if failure.exit_code is not None else ""
    return Text.assemble(text.text(failure.reason, "bold red"), code)


def _attempts(job: FineTuneJob) -> Text:
    last = job.status.attempts[-1]
    where = f", pod {last.pod}" if last.pod else ""
    node = f" on {last.node}" if last.node else ""
    return text.text(f"{last.number} of stage {last.stage}{where}{node}")


def _log(log: str) -> list[RenderableType]:
    return [Text("last lines of the log", "dim"), Padding(text.text(log, "dim"), (0, 0, 0, 2))]


def _advice(advice: Advice) -> RenderableType:
    words = Text.assemble(text.text(advice.reason, "yellow"), ": ", text.text(advice.message))
    return Padding(words, (0, 0, 0, 2))


def _facts(job: FineTuneJob) -> list[tuple[str, RenderableType]]:
    status = job.status
    return [
        *_reused(job),
        *(_artefact("adapter", status.adapter) if status.adapter else []),
        *(_artefact("model", status.model) if status.model else []),
        *(_dataset(status.dataset) if status.dataset else []),
        *(_training(status.training) if status.training else []),
        *(_memory(status.memory) if status.memory else []),
        *(_lineage(job, status.lineage) if status.lineage else []),
    ]


def _reused(job: FineTuneJob) -> list[tuple[str, RenderableType]]:
    reused = [stage for stage in STAGES if (said := job.status.condition(stage.condition)) and said.reason == REUSED]
    if not reused:
        return []
    names = " and ".join(map(str, reused))
    return [("reused", text.text(f"{names}: an identical job had the result already; nothing was computed", "bold"))]


def _lineage(job: FineTuneJob, lineage: LineageStatus) -> list[tuple[str, RenderableType]]:
    spec = job.spec
    rows = [
        ("base model", _made_from(spec.model.source, lineage.model_revision, lineage.model_sha256)),
    ]
    if spec.model.adapter:
        rows.append(
            (
                "from adapter" if spec.dataset else "evaluated",
                _made_from(spec.model.adapter.source, lineage.adapter_revision, lineage.adapter_sha256),
            )
        )
    if spec.dataset:
        rows.append(("rows", _made_from(spec.dataset.source, lineage.dataset_revision, lineage.dataset_sha256)))
    if lineage.training_sha256:
        rows.append(("digest", lineage.training_sha256[:DIGEST_LENGTH]))
    return [(name, text.text(value)) for name, value in rows]


def _made_from(source: str, revision: str | None, sha256: str | None) -> str:
    parts = [
        f"at {revision[:DIGEST_LENGTH]}" if revision else "",
        f"sha256 {sha256[:DIGEST_LENGTH]}" if sha256 else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f"{source} ({said})" if said else source


def _artefact(name: str, artefact: ArtefactStatus) -> list[tuple[str, RenderableType]]:
    return [
        (name, text.text(artefact.uri, "bold cyan")),
        ("sha256", text.text(artefact.sha256)),
        ("size", Text(f"{text.size(artefact.size_bytes)} in {artefact.files} files")),
    ]


def _dataset(dataset: DatasetStatus) -> list[tuple[str, RenderableType]]:
    """What was trained on and what was left out: a line for each thing that there is to say."""
    lengths = dataset.lengths
    tokens = f"{dataset.response_tokens:,} of {dataset.tokens:,} count in the loss" if dataset.tokens else ""
    per_row = f"of a row: median {lengths.median:,}, longest {lengths.longest:,}" if lengths else ""
    told = [
        ("trained on", dataset.summary),
        ("left out", _counts(dataset.dropped)),
        ("datasets", _counts(dataset.sources)),
        ("provenance", _counts(dataset.provenance)),
        ("tokens", "; ".join(filter(None, (tokens, per_row)))),
        ("overlap", f"{dataset.overlap:,} held-out rows ask what a training row asks" if dataset.overlap else ""),
    ]
    return [(name, text.text(words)) for name, words in told if words]


def _counts(counts: list[RowCount]) -> str:
    return ", ".join(f"{one.rows:,} {one.name}" for one in counts)


def _training(training: TrainingStatus) -> list[tuple[str, RenderableType]]:
    first, final = text.decimal(training.first_loss), text.decimal(training.final_loss)
    share = 100 * training.trainable_parameters / training.total_parameters if training.total_parameters else 0
    rows: list[tuple[str, RenderableType]] = [
        ("loss", Text.assemble((f"{first} → {final}", "bold"), f" in {training.steps} steps")),
        ("run time", Text(_runtime(training))),
    ]
    if training.resumed_from_step:
        rows.append(("went on", Text(f"from the checkpoint of step {training.resumed_from_step}")))
    if training.out_of_memory_retries:
        words = f"{training.micro_batch_size} rows at a time; GPU memory ran out {training.out_of_memory_retries}×"
        rows.append(("micro-batch", Text(words)))
    if training.validation_loss is not None:
        rows.append(("validation", Text(_validation(training))))
    if after := training.retention_when_saved:
        before = training.retention[0]
        kept = f"{text.decimal(before.perplexity, 3)} → {text.decimal(after.perplexity, 3)}"
        rows.append(("retention", Text(f"perplexity {kept} on rows of a general dataset")))
    if training.trainable_parameters:
        rows.append(("trained", Text(f"{training.trainable_parameters:,} parameters ({share:.2f}% of the model)")))
    return rows


def _validation(training: TrainingStatus) -> str:
    loss = f"loss {text.decimal(training.validation_loss)}"
    best = f" with the weights of step {training.best_step}, the best of them" if training.best_step else ""
    return f"{loss}{best}{'; stopped early' if training.stopped_early else ''}"


def _runtime(training: TrainingStatus) -> str:
    seen = f"{training.examples_seen:,} rows, {training.trained_tokens:,} tokens"
    dropped = f", {training.dropped_examples} dropped" if training.dropped_examples else ""
    return f"{training.runtime_seconds} s ({training.runtime_seconds / 60:.1f} min) for {seen}{dropped}"


def _memory(memory: MemoryStatus) -> list[tuple[str, RenderableType]]:
    rows: list[tuple[str, RenderableType]] = [("peak memory", text.text(memory.summary, "bold"))]
    for device in memory.devices:
        before, training = text.size(device.reserved_before_bytes), text.size(device.peak_for_training_bytes)
        rows.append(("", text.text(f"{device.name}: {before} before training, {training} more for it")))
    if memory.host and not memory.devices:
        limit = f", limit {text.size(memory.host.limit_bytes)}" if memory.host.limit_bytes else ""
        rows.append(("", Text(f"process: {text.size(memory.host.before_bytes)} before training{limit}")))
    return rows
