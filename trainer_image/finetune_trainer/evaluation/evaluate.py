"""The evaluation stage, top to bottom: inputs → base model, loaded once → comparison → report → result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.results import EvaluationStatus, ModelScores, StageResult
from finetune_api.spec import FineTuneJobSpec
from finetune_trainer.data.chat_template import read_chat_format
from finetune_trainer.data.prepare import Inputs, prepare_evaluation
from finetune_trainer.evaluation.report import Outcome, evaluation_status, report_document
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError, gpu_sizes
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.progress import Pace, ProgressPusher, make_push
from finetune_trainer.stage.result import lineage, read_result, stage_result, write_result
from finetune_trainer.stage.run_folder import open_run_folder
from finetune_trainer.training.train import finished_training


def evaluate(config: RunConfig, pusher: ProgressPusher | None) -> StageResult:
    """Scores base and tuned on the same held-out rows. A result of an earlier attempt of this job is returned at once.

    Raises StageError for failures with a known reason.
    """
    folder = open_run_folder(config)
    if done := read_result(folder.evaluation_result, config):
        say(f"already evaluated: {folder.evaluation_result}")
        return done
    spec = config.spec
    if spec.evaluation is None:
        raise StageError(Reason.INVALID_SPEC, "spec.evaluation is not set: there is nothing to evaluate")
    trained = finished_training(config, folder)
    if trained is None:
        raise StageError(
            Reason.EVALUATION_FAILED, f"the adapter {config.run_uri / 'adapter'} is missing, damaged or another job's"
        )
    inputs = prepare_evaluation(config, folder)
    final_loss = trained.training.final_loss if trained.training else None
    outcome = _compare(inputs, folder.adapter, spec, _progress(pusher, final_loss))

    status = evaluation_status(outcome, spec.evaluation, str(config.run_uri / "report" / "report.json"))
    for line in _lines(status):
        say(line)
    folder.report.mkdir(exist_ok=True)
    document = json.dumps(report_document(outcome, status), ensure_ascii=False, indent=2)
    write_text(folder.report / "report.json", document + "\n")
    sections = {"evaluation": status, "lineage": lineage(config, inputs.lock, inputs.rows.sha256)}
    result = stage_result(config, "Evaluate", sections)
    write_result(folder.evaluation_result, result)
    return result


def _compare(inputs: Inputs, adapter: Path, spec: FineTuneJobSpec, on_scored: Callable[[int, int], None]) -> Outcome:
    from torch import OutOfMemoryError

    from finetune_trainer.evaluation.comparison import Contestants, compare
    from finetune_trainer.models.evaluation_model import (  # PEFT and transformers take seconds to import
        attach,
        load_base,
        load_tokenizer,
    )

    chat = read_chat_format(load_tokenizer(adapter), spec.model.chat_template)
    say(f"loading {inputs.model.name} in 4 bit (NF4)")
    try:
        base = load_base(inputs.model, inputs.device)
        contestants = Contestants(base, lambda model: attach(model, adapter), chat, inputs.device)
        return compare(contestants, inputs.rows.rows, spec, on_scored)
    except OutOfMemoryError as error:
        # Not OutOfMemory, whose advice is for training.
        raise StageError(
            Reason.EVALUATION_FAILED,
            f"GPU memory ran out, even with one held-out row at a time: {gpu_sizes(error)}; "
            "take a GPU with more memory, or shorten the held-out rows and their options",
        ) from error


def _progress(pusher: ProgressPusher | None, final_loss: str | None) -> Callable[[int, int], None]:
    """Reports rows scored. The training's last loss travels along, so that the LOSS column keeps it."""
    pace = Pace(0)
    metrics = {"loss": final_loss} if final_loss else {}

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if pusher:
            pusher.push(done, make_push(done, total, pace.remaining_seconds(done, total, now), metrics))

    return report


def _lines(status: EvaluationStatus) -> Iterator[str]:
    yield f"{status.examples} rows scored in {status.runtime_seconds} seconds"
    for name, scores in (("base", status.base), ("tuned", status.tuned)):
        if scores:
            yield f"{name:>6}: {_scores_line(scores)}"
    if test := status.paired_test:
        yield f"McNemar: only base right {test.base_only}, only tuned right {test.tuned_only}, p = {test.p_value}"
    for sample in status.samples:
        yield f"prompt: {sample.prompt}"
        yield f"  expected: {sample.expected}"
        yield f"  base:     {sample.base}{'  [names no option]' if sample.base_invented else ''}"
        yield f"  tuned:    {sample.tuned}{'  [names no option]' if sample.tuned_invented else ''}"


def _scores_line(scores: ModelScores) -> str:
    parts = []
    for name, value, interval in (
        ("accuracy", scores.accuracy, scores.accuracy_interval95),
        ("letter accuracy", scores.letter_accuracy, scores.letter_accuracy_interval95),
        ("perplexity", scores.perplexity, None),
    ):
        if value is not None:
            bounds = f" [{float(interval.low):.3f}, {float(interval.high):.3f}]" if interval else ""
            parts.append(f"{name} {float(value):.3f}{bounds}")
    return ", ".join(parts)
