"""What a job without training rows would evaluate: rows and adapter looked at, without GPU and the base's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.defaults import ResolvedSpec
from finetune_api.results import Advice
from finetune_trainer.data.load import Rows, load_examples
from finetune_trainer.data.prepare import load_held_out
from finetune_trainer.sources.locate import Sources, locate


@dataclass(frozen=True)
class EvaluationPlan:
    """What would be scored. ``dropped`` counts held-out rows that exceed the context; None: no tokenizer was asked."""

    spec: ResolvedSpec
    rows: Rows
    retention: Rows | None
    dropped: int | None = None
    tokenizer: str = ""  # whose it is
    advice: Sequence[Advice] = ()

    def document(self) -> dict[str, Any]:
        """The rows for tools."""
        sets = {"evaluation": self.rows, "retention": self.retention}
        return {
            name: {"source": rows.name, "rows": len(rows.examples), "sha256": rows.sha256}
            for name, rows in sets.items()
            if rows
        }


def plan_rows(config: RunConfig) -> EvaluationPlan:
    """The rows that would be scored. Raises StageError as the evaluation would."""
    return _rows(config, locate(config, None, with_weights=False))


def plan_evaluation(config: RunConfig) -> EvaluationPlan:
    """The same, once the adapter was read and tried on its base's shape, and the rows on their tokenizer."""
    from finetune_trainer.data.chat_format import read_chat_format
    from finetune_trainer.data.held_out import keep_fitting
    from finetune_trainer.models.loading import context_of, load_config, load_tokenizer
    from finetune_trainer.models.tuned import given

    sources = locate(config, None, with_weights=False)
    found, tuned, settings = _rows(config, sources), given(sources.model, sources.adapter), load_config(sources.model)
    chat = read_chat_format(load_tokenizer(tuned.tokenizer), config.spec.model, settings.get_text_config().vocab_size)
    _, dropped = keep_fitting(found.rows.examples, chat, context_of(settings), config.spec.training.loss_on)
    whose = "the base model's" if tuned.tokenizer == sources.model else "the adapter's own"
    return EvaluationPlan(config.spec, found.rows, found.retention, dropped, whose, tuned.advice)


def _rows(config: RunConfig, sources: Sources) -> EvaluationPlan:
    evaluation, rows = config.spec.evaluation, load_held_out(config, sources)
    assert evaluation, "a job without training rows has an evaluation"
    assert rows, "an evaluation has held-out rows"
    asked = evaluation.retention
    retention = load_examples(sources.retention, asked) if sources.retention and asked else None
    return EvaluationPlan(config.spec, rows, retention)
