"""The end of a job, printed once: what came out of it, or why nothing did."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_api.job import FineTuneJob
from finetune_api.reasons import FAILURES
from finetune_api.results import AdapterStatus, FailureStatus, MemoryStatus, TrainingStatus
from finetune_cli import text
from finetune_cli.scores import render_evaluation
from finetune_cli.view import elapsed

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
    after = f" after {spent}" if spent else ""
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
    advice = FAILURES[failure.reason].advice
    if advice not in failure.message:
        rows.append(("what to do", text.text(advice, "bold")))
    if job.status.attempts:
        rows.append(("attempts", _attempts(job)))
    table = labelled(rows)
    return Group(table, Text(), *_log(failure)) if failure.log.strip() else table


def _reason(failure: FailureStatus) -> Text:
    code = f" (exit code {failure.exit_code})" if failure.exit_code is not None else ""
    return Text.assemble((failure.reason.value, "bold red"), code)


def _attempts(job: FineTuneJob) -> Text:
    last = job.status.attempts[-1]
    where = f", pod {last.pod}" if last.pod else ""
    node = f" on {last.node}" if last.node else ""
    return text.text(f"{last.number} of stage {last.stage}{where}{node}")


def _log(failure: FailureStatus) -> list[RenderableType]:
    lines = text.text(failure.log.strip("\n"), "dim")
    return [Text("last lines of the log", "dim"), Padding(lines, (0, 0, 0, 2))]


def _facts(job: FineTuneJob) -> list[tuple[str, RenderableType]]:
    status = job.status
    return [
        *(_adapter(status.adapter) if status.adapter else []),
        *(_training(status.training) if status.training else []),
        *(_memory(status.memory) if status.memory else []),
    ]


def _adapter(adapter: AdapterStatus) -> list[tuple[str, RenderableType]]:
    return [
        ("adapter", text.text(adapter.uri, "bold cyan")),
        ("sha256", text.text(adapter.sha256)),
        ("size", Text(f"{text.size(adapter.size_bytes)} in {adapter.files} files")),
    ]


def _training(training: TrainingStatus) -> list[tuple[str, RenderableType]]:
    first, final = text.decimal(training.first_loss), text.decimal(training.final_loss)
    share = 100 * training.trainable_parameters / training.total_parameters if training.total_parameters else 0
    rows: list[tuple[str, RenderableType]] = [
        ("loss", Text.assemble((f"{first} → {final}", "bold"), f" in {training.steps} steps")),
        ("run time", Text(_runtime(training))),
    ]
    if training.trainable_parameters:
        rows.append(("trained", Text(f"{training.trainable_parameters:,} parameters ({share:.2f}% of the model)")))
    return rows


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
