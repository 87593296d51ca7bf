"""From an outcome to the status section and to report.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune_api.base import cut, number
from finetune_api.results import (
    Advice,
    Answer,
    EvaluationStatus,
    LatencyStatus,
    MetricStatus,
    RetentionStatus,
    SampleAnswer,
)
from finetune_trainer.data.example import Choices, Example
from finetune_trainer.evaluation.answers import Names, Reading
from finetune_trainer.evaluation.judge.prompts import AnsweredRow
from finetune_trainer.evaluation.judge.status import judge_lines
from finetune_trainer.evaluation.measure import Measured, measure
from finetune_trainer.evaluation.metrics import metrics_of, retention_metrics
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric
from finetune_trainer.evaluation.outcome import Generated, Latency, Outcome

VERSION = 1
STATUS_SAMPLES = 3
_MAX_TEXT = 1000  # characters of a text of a row without options
DEFINITIONS = {
    "interval95": "Wilson score interval (Wilson 1927), 95%",
    "pairedTest": "McNemar's exact test, two-sided, on the rows that only one of the models has right",
    "agreement": "batches against a plain pass over one row at a time on the same model: checked rows, how many of "
    "them a batch decided otherwise (different), and how many of these were not seen to be near-ties (missed); further "
    "near-ties that the plain pass decided (settled), and how many of them it changed",
    "names": "what an answer in words names: Option, one that is there; NoSuchOption, an invented one; Nothing: none, "
    "or two, or it was cut at maxNewTokens",
}


@dataclass(frozen=True)
class About:
    """What the report says of its rows beside the models' part."""

    dropped: int  # held-out rows left out because they exceed the model's context
    shared: int  # held-out rows whose question is among the training rows


def evaluation_status(
    outcome: Outcome, measured: Sequence[Measured], about: About, report_uri: str
) -> EvaluationStatus:
    """The evaluation section of the result, its texts cut to fit."""
    return EvaluationStatus(
        summary=summarise(measured),
        examples=len(outcome.examples),
        dropped_examples=about.dropped,
        shared_examples=about.shared,
        metrics=[one.status for one in measured],
        runtime_seconds=round(outcome.runtime_seconds),
        retention=_retention(outcome.retention),
        latency=[_latency(name, one) for name, one in outcome.latency.items()],
        samples=[_sample(outcome, place) for place in _shown(outcome)[:STATUS_SAMPLES]],
        report_uri=report_uri,
    )


def _retention(outcome: Outcome | None) -> RetentionStatus | None:
    if outcome is None:
        return None
    metrics = metrics_of(retention_metrics(outcome.examples))
    return RetentionStatus(
        examples=len(outcome.examples), metrics=[measure(metric, outcome).status for metric in metrics]
    )


def _latency(name: str, measured: Latency) -> LatencyStatus:
    return LatencyStatus(
        name=name,
        precision=measured.precision,
        first_token_milliseconds=number(measured.first_token_seconds * 1000, 4),
        tokens_per_second=number(measured.tokens_per_second, 4),
    )


def summarise(measured: Sequence[Measured]) -> str:
    """Base and tuned in one short text, by the first metric that has a value."""
    for one in measured:
        if one.status.tuned:
            before = f"{float(one.status.base.value):.2f}→" if one.status.base else ""
            return f"{one.metric.label}{before}{float(one.status.tuned.value):.2f}"
    return "no metric"


def report_document(
    outcome: Outcome, measured: Sequence[Measured], about: About, status: EvaluationStatus, digests: dict[str, str]
) -> dict[str, Any]:
    """What report.json holds: definitions, scores, how often each option was chosen, whole answers, every row.

    Rows are found again by ``sha256``, the digest of what the row itself holds, so that two reports can be paired.
    """
    return {
        "version": VERSION,
        **digests,
        "definitions": {**{one.metric.name: one.metric.definition for one in measured}, **DEFINITIONS},
        "evaluation": status.model_copy(update={"samples": []}).to_api(),
        "agreement": {name: asdict(side.scores.agreement) for name, side in outcome.sides.items()},
        "chosen": _chosen(outcome, measured),
        "samples": [_sample_document(outcome, place) for place in _shown(outcome)],
        "rows": list(_row_documents(outcome, measured)),
    }


def answered_rows(outcome: Outcome) -> list[AnsweredRow]:
    """The rows that were answered in words, as a judge reads them."""
    base = [one.text for one in outcome.base.answers] if outcome.base else [None] * len(outcome.tuned.answers)
    return [
        AnsweredRow(question.turn.sha256, _prompt(question.turn), _expected(question.turn), tuned.text, before)
        for question, tuned, before in zip(outcome.answered, outcome.tuned.answers, base, strict=True)
    ]


def rounding_advice(outcome: Outcome) -> list[Advice]:
    """What to know when a batch decided a checked row otherwise and nobody would have seen it in the others."""
    missed = {name: side.scores.agreement for name, side in outcome.sides.items() if side.scores.agreement.missed}
    counts = ", ".join(f"{one.missed} of {one.checked} checked rows ({name})" for name, one in missed.items())
    message = (
        f"rounding decided {counts}: differences of about that share of the rows mean nothing; compare accuracies by "
        "their intervals and the paired test"
    )
    return [Advice(reason="RoundingDecides", message=message)] if missed else []


def report_lines(outcome: Outcome, status: EvaluationStatus) -> Iterator[str]:
    """The same for the log."""
    parts = "" if len(outcome.questions) == status.examples else f", in {len(outcome.questions)} parts,"
    yield f"{status.examples} rows scored{parts} in {status.runtime_seconds} seconds"
    for metric in status.metrics:
        yield _metric_line(metric)
    if status.retention:
        yield f"retention, {status.retention.examples} rows:"
        yield from (f"  {_metric_line(metric)}" for metric in status.retention.metrics)
    for one in status.latency:
        yield (
            f"{one.name.lower()} ({one.precision}): first token after {one.first_token_milliseconds} ms, then "
            f"{one.tokens_per_second} tokens/s, one prompt at a time"
        )
    if status.judge:
        yield from (f"judge: {line}" for line in judge_lines(status.judge))
    decided = any(question.choices for question in outcome.questions)
    for name, side in outcome.sides.items() if decided else ():
        agreement = side.scores.agreement
        yield (
            f"{name}: batches decided {agreement.checked - agreement.different} of {agreement.checked} rows as a plain "
            f"pass does; {agreement.settled} further near-ties were decided by one"
        )
    for sample in status.samples:
        yield f"prompt: {sample.prompt}"
        yield f"  expected: {sample.expected}"
        for name, answer in (("base", sample.base), ("tuned", sample.tuned)):
            if answer:
                yield f"  {name + ':':9} {answer.text}{_verdict(answer)}"


def _metric_line(metric: MetricStatus) -> str:
    if metric.omitted:
        return f"{metric.name}: omitted, {metric.omitted}"
    parts = []
    for name, value in (("base", metric.base), ("tuned", metric.tuned)):
        if value:
            interval = value.interval95
            bounds = f" [{float(interval.low):.3f}, {float(interval.high):.3f}]" if interval else ""
            parts.append(f"{name} {float(value.value):.3f}{bounds}")
    if metric.examples is not None:
        parts.append(f"on {metric.examples} rows")
    if test := metric.paired_test:
        parts.append(f"only base right {test.base_only}, only tuned right {test.tuned_only}, p = {metric.p_value}")
    return f"{metric.name}: {', '.join(parts)}"


def _verdict(answer: Answer) -> str:
    if answer.names is None:
        return ""
    if answer.option is not None:
        return f"  [names {answer.option}, {'right' if answer.right else 'wrong'}]"
    return "  [names an option that isn't there]" if answer.names == Names.NO_SUCH_OPTION else "  [names no option]"


def _shown(outcome: Outcome) -> range:
    return range(min(outcome.samples, len(outcome.tuned.answers)))


def _sample(outcome: Outcome, place: int) -> SampleAnswer:
    turn = outcome.answered[place].turn
    answers = {name: _answer(side.answers[place], turn) for name, side in outcome.sides.items()}
    return SampleAnswer(prompt=cut(_prompt(turn), 512), expected=cut(_expected(turn), 256), **answers)


def _answer(generated: Generated, turn: Example) -> Answer:
    text, reading = cut(generated.text, 512), generated.reading
    if turn.choices is None or reading is None:
        return Answer(text=text)
    letter, right = _named(reading, turn.choices)
    return Answer(text=text, names=reading.names.value, option=None if letter is None else cut(letter, 16), right=right)


def _named(reading: Reading, choices: Choices) -> tuple[str | None, bool | None]:
    if reading.option is None:
        return None, None
    return choices.options[reading.option].letter, choices.is_right(reading.option)


def _prompt(turn: Example) -> str:
    """What the user says last; where no user speaks, whoever does."""
    said = [message for message in turn.prompt if message.role == "user"] or turn.prompt
    return said[-1].content if said else ""


def _expected(turn: Example) -> str:
    """The response as people read it: its text, without thoughts, as answers have none, or the tools that it calls."""
    text = turn.response
    if text.lstrip().startswith("<think>"):
        text = text.partition("</think>")[2].strip() or text
    if text or not turn.messages:
        return text
    return json.dumps(turn.messages[-1].extra.get("tool_calls", ""), ensure_ascii=False)


def _sample_document(outcome: Outcome, place: int) -> dict[str, Any]:
    turn = outcome.answered[place].turn
    document: dict[str, Any] = {"sha256": turn.sha256, "prompt": _prompt(turn), "expected": _expected(turn)}
    for name, side in outcome.sides.items():
        generated = side.answers[place]
        document[name] = {"answer": generated.text, "cut": generated.cut}
        if turn.choices and (reading := generated.reading):
            letter, right = _named(reading, turn.choices)
            named = {} if letter is None else {"option": letter, "right": right}
            document[name] |= {"names": reading.names.value, **named}
    return document


def _chosen(outcome: Outcome, measured: Sequence[Measured]) -> dict[str, Any]:
    """How often each key is right, and how often each model chose it: a model may say A whatever is asked."""
    choices = [question.choices for question in outcome.questions]
    counts: dict[str, Any] = {"right": _sorted_counts(one.options[one.right].letter for one in choices if one)}
    for name in outcome.sides:
        counts[name] = {
            one.metric.name: _sorted_counts(
                options.options[row.option].letter
                for index, row in one.rows[name].items()
                if (options := choices[index])
            )
            for one in measured
            if isinstance(one.metric, ChoiceMetric) and one.rows
        }
    return counts


def _sorted_counts(letters: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(letters).items()))


def _row_documents(outcome: Outcome, measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Every row: with its options and what was chosen, else with each response, or window, that was scored."""
    parts: dict[int, list[int]] = {}
    for index, question in enumerate(outcome.questions):
        parts.setdefault(question.row, []).append(index)
    for row, example in enumerate(outcome.examples):
        seen = [_seen(outcome, measured, index) for index in parts.get(row, [])]
        if choices := example.choices:
            yield {
                "sha256": example.sha256,
                "question": example.question,
                "options": {option.letter: option.text for option in choices.options},
                "right": choices.options[choices.right].letter,
                **seen[0],
            }
        elif example.text is not None:
            yield {"sha256": example.sha256, "where": example.where, "text": _part(example.text), "windows": seen}
        else:
            turns = [outcome.questions[index].turn for index in parts.get(row, [])]
            said = [{"prompt": _part(_prompt(turn)), "expected": _part(_expected(turn))} for turn in turns]
            responses = [{**texts, **one} for texts, one in zip(said, seen, strict=True)]
            yield {"sha256": example.sha256, "where": example.where, "responses": responses}


def _seen(outcome: Outcome, measured: Sequence[Measured], index: int) -> dict[str, Any]:
    """What each metric saw in a question, by model."""
    return {
        name: {
            one.metric.name: one.metric.document(outcome.questions[index], one.rows[name][index])
            for one in measured
            if one.rows and index in one.rows[name]
        }
        for name in outcome.sides
    }


def _part(text: str) -> str:
    """A row's text cut for the report: its digest and its place find the whole."""
    return cut(text, _MAX_TEXT)
