"""``spec.evaluation.checks`` as metrics: the share of answers in words that pass, each under the check's own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from finetune_api.base import cut
from finetune_api.checks import CheckSpec
from finetune_api.results import MetricValue
from finetune_trainer.evaluation.matching import Matcher, TooSlowError, is_json, matches_pattern, matches_terms
from finetune_trainer.evaluation.metrics.base import AnswerMetric, NotMeasurableError, Test
from finetune_trainer.evaluation.metrics.share import flag, mcnemar, share_of
from finetune_trainer.evaluation.outcome import Generated
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.sources.terms import terms_in

_MAX_SHOWN = 200  # characters of a pattern in the report


@dataclass(frozen=True, eq=False)
class Check(AnswerMetric[bool]):
    """The share of answers that pass a check."""

    name: str
    label: str
    definition: str
    matches: Matcher
    passes: bool  # whether an answer passes that matches, or one that doesn't

    def row(self, question: Question, answer: Generated) -> bool:
        try:
            return self.matches(answer.text) == self.passes
        except TooSlowError as error:
            raise NotMeasurableError(str(error)) from error

    def value(self, rows: Sequence[bool]) -> MetricValue:
        return share_of(rows)

    def compare(self, base: Sequence[bool], tuned: Sequence[bool]) -> Test:
        return mcnemar(base, tuned)

    def document(self, question: Question, row: bool) -> dict[str, Any]:
        return {"passes": row}

    def hit(self, document: Mapping[str, Any]) -> bool | None:
        return flag(document, "passes")


def checks_of(specs: Sequence[CheckSpec] | None, terms: Mapping[str, Sequence[str]]) -> list[Check]:
    """The checks of a spec, in its order; ``terms`` are those of checks that name a file, by name.

    Raises StageError (InvalidSpec) for a pattern that can't be compiled.
    """
    return [_check(spec, terms.get(spec.name, ())) for spec in specs or ()]


def _check(spec: CheckSpec, from_file: Sequence[str]) -> Check:
    if spec.pattern is not None:
        matches, sought = matches_pattern(spec.name, spec.pattern), f"the pattern {cut(spec.pattern, _MAX_SHOWN)}"
    elif spec.format is not None:
        matches, sought = is_json, "as a JSON value"
    else:
        terms = spec.terms or from_file or _refusals()
        matches, sought = matches_terms(terms), f"one of {len(terms)} terms"
    passes = spec.expect == "Match"
    definition = f"share of answers in words that {'match' if passes else 'do not match'} {sought}"
    return Check(spec.name, f"{spec.name} ", definition, matches, passes)


def _refusals() -> list[str]:
    return terms_in(files("finetune_trainer.evaluation").joinpath("refusals.txt").read_text(encoding="utf-8"))
