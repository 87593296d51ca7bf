"""BLEU and chrF of answers in words against the right responses, as sacrebleu computes them with its defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_api.base import number
from finetune_api.results import Interval, MetricValue
from finetune_trainer.evaluation.metrics.base import AnswerMetric, Numbers, Test
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.resampling import approximate_randomization, bootstrap_interval
from finetune_trainer.evaluation.turn_text import expected_text

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Measure

# What sacrebleu sums up over the rows: matches and lengths of n-grams.
Statistics = tuple[int, ...]


class OverlapMetric(AnswerMetric[Statistics]):
    """A score of a whole corpus, from 0 to 100, that follows from sums over its rows."""

    @property
    def definition(self) -> str:  # type: ignore[override]
        return (
            f"{self.label.strip()} of the answers in words against the right responses, over all rows at once, from 0 "
            f"to 100, by sacrebleu ({self.signature}); interval95: percentile bootstrap over rows (Koehn 2004, 1,000 "
            "resamples); pValue: paired approximate randomization (Riezler and Maxwell 2005, 10,000 trials); "
            "statistics: what the row adds to the sums"
        )

    @cached_property
    def _measure(self) -> Measure:
        # It takes a quarter of a second to import, and most evaluations don't ask for it.
        from sacrebleu import metrics

        return getattr(metrics, self.name.upper())()

    @property
    def signature(self) -> str:
        """What sacrebleu prints, so that others can compute the same."""
        self._measure.corpus_score(["one"], [["one"]])  # it counts the references, which the signature names
        return str(self._measure.get_signature())

    def why_not(self, question: Question) -> str | None:
        if not question.turn.response.strip():
            return "the right response calls a tool, or is empty: there is no text to compare with"
        return None

    def row(self, question: Question, answer: Generated) -> Statistics:
        # sacrebleu keeps its resampling to itself, and that needs rows x resamples of memory at once: hence its parts.
        (found,) = self._measure._extract_corpus_statistics([answer.text], [[expected_text(question.turn)]])
        return tuple(map(int, found))

    def value(self, rows: Sequence[Statistics]) -> MetricValue:
        low, high = bootstrap_interval(rows, self.score)
        return MetricValue(
            value=number(self.score([sum(column) for column in zip(*rows, strict=True)])),
            interval95=Interval(low=number(low), high=number(high)),
        )

    def score(self, sums: Sequence[int]) -> float:
        """The score of a corpus with these sums."""
        return float(self._measure._compute_score_from_stats(list(sums)).score)

    def compare(self, base: Sequence[Statistics], tuned: Sequence[Statistics]) -> Test:
        return Test(None, approximate_randomization(base, tuned, self.score))

    def document(self, question: Question, row: Statistics) -> dict[str, Any]:
        return {"statistics": list(row)}

    def sums(self, document: Mapping[str, Any]) -> tuple[float, ...] | None:
        found = document.get("statistics")
        return tuple(map(float, found)) if isinstance(found, list) else None

    def of_sums(self, sums: Numbers) -> Numbers:
        return np.apply_along_axis(lambda one: self.score([*map(int, one)]), -1, sums)


class BLEU(OverlapMetric):
    """BLEU (Papineni et al. 2002) as sacrebleu computes it (Post 2018)."""

    name = "BLEU"
    label = "BLEU "


class ChrF(OverlapMetric):
    """chrF (Popović 2015) as sacrebleu computes it."""

    name = "ChrF"
    label = "chrF "
