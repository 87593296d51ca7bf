"""From scores to the status section and to report.json."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from finetune_api.base import cut, number
from finetune_api.results import EvaluationStatus, Interval, ModelScores, PairedTest, SampleAnswer
from finetune_api.spec import EvaluationSpec
from finetune_trainer.data.formats.multiple_choice import ChoiceRow
from finetune_trainer.evaluation.questions import Score
from finetune_trainer.evaluation.statistics import mcnemar_exact, perplexity, wilson_interval

STATUS_SAMPLES = 3
DEFINITIONS = {
    "accuracy": "share of rows whose right option has the likeliest response: mean log-likelihood per token of the "
    "filled response template, after the tokens that all options share, without the end of the turn",
    "letterAccuracy": "share of rows whose right letter is the likeliest first token of the answer, of the letters",
    "perplexity": "exp of the mean negative log-likelihood per token of the right responses, end of turn included",
    "interval95": "Wilson score interval",
    "pairedTest": "McNemar's exact test on accuracy, two-sided",
}


@dataclass(frozen=True)
class Sample:
    """A row answered in words; texts are whole here. ``*_option`` is the letter that the answer names, if any."""

    prompt: str
    expected: str
    base: str | None
    tuned: str
    base_option: str | None
    tuned_option: str | None


@dataclass(frozen=True)
class Outcome:
    """All that an evaluation found. ``base`` is None when base wasn't scored."""

    rows: list[ChoiceRow]
    base: list[Score] | None
    tuned: list[Score]
    samples: list[Sample]
    runtime_seconds: float


def evaluation_status(outcome: Outcome, spec: EvaluationSpec, report_uri: str) -> EvaluationStatus:
    """The evaluation section of the result, its texts cut to fit."""
    base = model_scores(outcome.rows, outcome.base, spec) if outcome.base else None
    tuned = model_scores(outcome.rows, outcome.tuned, spec)
    return EvaluationStatus(
        summary=summarise(base, tuned),
        examples=len(outcome.rows),
        base=base,
        tuned=tuned,
        paired_test=paired_test(outcome) if outcome.base and "Accuracy" in spec.metrics else None,
        runtime_seconds=round(outcome.runtime_seconds),
        samples=[_short(sample) for sample in outcome.samples[:STATUS_SAMPLES]],
        report_uri=report_uri,
    )


def model_scores(rows: list[ChoiceRow], scores: list[Score], spec: EvaluationSpec) -> ModelScores:
    """The asked-for metrics of one model."""
    values: dict[str, Any] = {}
    n = len(rows)
    if "Accuracy" in spec.metrics:
        right = sum(_is_right(row, score.option) for row, score in zip(rows, scores, strict=True))
        values |= {"accuracy": number(right / n), "accuracy_interval95": _interval(right, n)}
    if "LetterAccuracy" in spec.metrics:
        right = sum(_is_right(row, score.letter) for row, score in zip(rows, scores, strict=True))
        values |= {"letter_accuracy": number(right / n), "letter_accuracy_interval95": _interval(right, n)}
    if "Perplexity" in spec.metrics:
        total = sum(score.right_log_likelihood for score in scores)
        values["perplexity"] = number(perplexity(total, sum(score.right_tokens for score in scores)))
    return ModelScores(**values)


def paired_test(outcome: Outcome) -> PairedTest:
    """McNemar's exact test of base against tuned, on accuracy."""
    assert outcome.base is not None, "a paired test needs the base model's scores"
    pairs = Counter(
        (_is_right(row, base.option), _is_right(row, tuned.option))
        for row, base, tuned in zip(outcome.rows, outcome.base, outcome.tuned, strict=True)
    )
    base_only, tuned_only = pairs[True, False], pairs[False, True]
    p_value = number(mcnemar_exact(base_only, tuned_only), 3)
    return PairedTest(base_only=base_only, tuned_only=tuned_only, p_value=p_value)


def summarise(base: ModelScores | None, tuned: ModelScores) -> str:
    """Base and tuned in one short text: accuracy, or the next metric that there is."""
    for name, prefix in (("accuracy", ""), ("letter_accuracy", "letter "), ("perplexity", "perplexity ")):
        value = getattr(tuned, name)
        if value is not None:
            before = f"{float(getattr(base, name)):.2f}→" if base else ""
            return f"{prefix}{before}{float(value):.2f}"
    raise ValueError("an evaluation has at least one metric")


def report_document(outcome: Outcome, status: EvaluationStatus) -> dict[str, Any]:
    """What report.json holds: definitions, scores, how often each letter was chosen, every row, whole answers."""
    models = {"base": outcome.base, "tuned": outcome.tuned}
    return {
        "version": 1,
        "definitions": DEFINITIONS,
        "evaluation": status.model_copy(update={"samples": []}).to_api(),
        "letters": {
            "right": dict(sorted(Counter(row.letter for row in outcome.rows).items())),
            **{name: _letters(outcome.rows, scores) for name, scores in models.items() if scores},
        },
        "samples": [_sample_document(sample) for sample in outcome.samples],
        "rows": [
            {
                "question": row.question,
                "options": row.options,
                "right": row.letter,
                **{name: _row_document(row, scores[index]) for name, scores in models.items() if scores},
            }
            for index, row in enumerate(outcome.rows)
        ],
    }


def _letters(rows: list[ChoiceRow], scores: list[Score]) -> dict[str, dict[str, int]]:
    pairs = list(zip(rows, scores, strict=True))
    by_option = Counter(list(row.options)[score.option] for row, score in pairs)
    by_letter = Counter(list(row.options)[score.letter] for row, score in pairs)
    return {"byOption": dict(sorted(by_option.items())), "byLetter": dict(sorted(by_letter.items()))}


def _row_document(row: ChoiceRow, score: Score) -> dict[str, Any]:
    letters = list(row.options)
    return {
        "option": letters[score.option],
        "letter": letters[score.letter],
        "rightLogLikelihood": round(score.right_log_likelihood, 4),
        "rightTokens": score.right_tokens,
    }


def _sample_document(sample: Sample) -> dict[str, Any]:
    tuned = {"answer": sample.tuned, "option": sample.tuned_option, "invented": sample.tuned_option is None}
    document: dict[str, Any] = {"prompt": sample.prompt, "expected": sample.expected, "tuned": tuned}
    if sample.base is not None:
        document["base"] = {
            "answer": sample.base,
            "option": sample.base_option,
            "invented": sample.base_option is None,
        }
    return document


def _short(sample: Sample) -> SampleAnswer:
    return SampleAnswer(
        prompt=cut(sample.prompt, 512),
        expected=cut(sample.expected, 256),
        base=cut(sample.base or "", 512),
        tuned=cut(sample.tuned, 512),
        base_invented=sample.base is not None and sample.base_option is None,
        tuned_invented=sample.tuned_option is None,
    )


def _interval(right: int, n: int) -> Interval:
    low, high = wilson_interval(right, n)
    return Interval(low=number(low), high=number(high))


def _is_right(row: ChoiceRow, index: int) -> bool:
    return list(row.options)[index] == row.letter
