"""From an outcome to the status section and to report.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune_api.base import cut, number, one_line
from finetune_api.gate_verdicts import gate_line
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
from finetune_trainer.evaluation.answer_kinds import DEFINITIONS as ANSWER_DEFINITIONS
from finetune_trainer.evaluation.answer_kinds import count_answers
from finetune_trainer.evaluation.answers import Names, Reading
from finetune_trainer.evaluation.baselines import baselines, baselines_document, baselines_line
from finetune_trainer.evaluation.gates import JudgedGate
from finetune_trainer.evaluation.judge.prompts import AnsweredRow
from finetune_trainer.evaluation.judge.status import judge_lines
from finetune_trainer.evaluation.measure import Measured, measure
from finetune_trainer.evaluation.metrics import metrics_of, retention_metrics
from finetune_trainer.evaluation.metrics.base import AnswerMetric, Metric
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric
from finetune_trainer.evaluation.metrics.generated_accuracy import GeneratedAccuracy
from finetune_trainer.evaluation.outcome import Generated, Latency, Outcome, Prompted
from finetune_trainer.evaluation.slice_status import ADJUSTED, in_status, slice_statuses
from finetune_trainer.evaluation.slices import has_own_rows, memberships
from finetune_trainer.evaluation.turn_text import expected_text, prompt_text

VERSION = 1
STATUS_SAMPLES = 3
_MAX_TEXT = 1000  # characters of a row's text or answer, in its entry among all rows
_MAX_ANSWER = 65_536  # characters of a sample's answer
DEFINITIONS = {
    "interval95": "Wilson score interval (Wilson 1927), 95%, where a metric does not say otherwise",
    "pairedTest": "McNemar's exact test, two-sided, on the rows that only one of the models has right",
    "agreement": "batches against a plain pass over one row at a time on the same model: checked rows, how many of "
    "them a batch decided otherwise (different), and how many of these were not seen to be near-ties (missed); further "
    "near-ties that the plain pass decided (settled), and how many of them it changed",
    "baselines": "shares of rows that are right without a model: guessing among a row's options, and always saying the "
    "letter that is right most often",
    "adjustedPValue": ADJUSTED,
    "names": "what an answer in words names: Option, one that is there; NoSuchOption, an invented one; Nothing: none, "
    "or two, or it was cut at maxNewTokens",
    **ANSWER_DEFINITIONS,
}


@dataclass(frozen=True)
class About:
    """What the report says of its rows beside the models' part."""

    dropped: int  # held-out rows left out because they exceed the model's context
    shared: int | None  # held-out rows whose question is among the training rows; None: those are not known


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
        slices=in_status(slice_statuses(outcome.slices, [one.metric for one in measured])),
        latency=[_latency(name, one) for name, one in outcome.latency.items()],
        samples=[
            *map(_prompted, outcome.prompts),
            *(_sample(outcome, place) for place in _shown(outcome)),
        ][:STATUS_SAMPLES],
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


def _retention_rows(outcome: Outcome) -> list[dict[str, Any]]:
    metrics = metrics_of(retention_metrics(outcome.examples))
    return list(_row_documents(outcome, [measure(metric, outcome) for metric in metrics]))


def summarise(measured: Sequence[Measured]) -> str:
    """Base and tuned in one short text, by the first metric that has a value."""
    for one in measured:
        if one.status.tuned:
            before = f"{float(one.status.base.value):.2f}→" if one.status.base else ""
            return f"{one.metric.label}{before}{float(one.status.tuned.value):.2f}"
    return "no metric"


def report_document(
    outcome: Outcome, measured: Sequence[Measured], about: About, status: EvaluationStatus, origin: dict[str, Any]
) -> dict[str, Any]:
    """What report.json holds: ``origin`` (the job, and what it was made from), definitions, scores, how often each
    option was chosen, what became of the answers in words, those of the samples in full, every row.

    Rows are found again by ``sha256``, the digest of what the row itself holds, so that two reports can be paired.
    """
    return {
        "version": VERSION,
        **origin,
        "definitions": {**{one.metric.name: one.metric.definition for one in measured}, **DEFINITIONS},
        "evaluation": status.model_copy(update={"samples": []}).to_api(),
        "details": _details(measured),
        **_baselines(outcome),
        "agreement": {name: asdict(side.scores.agreement) for name, side in outcome.sides.items()},
        "chosen": _chosen(outcome, measured),
        "answers": {name: counts.to_document() for name, counts in count_answers(outcome).items()},
        "prompts": [_prompt_document(one) for one in outcome.prompts],
        "samples": [_sample_document(outcome, place) for place in _shown(outcome)],
        "slices": _slice_documents(outcome, [one.metric for one in measured]),
        "rows": [
            {**row, "slices": names} if names else row
            for row, names in zip(
                _row_documents(outcome, measured), memberships(outcome.slices, outcome.examples), strict=True
            )
        ],
        **({"retentionRows": _retention_rows(outcome.retention)} if outcome.retention else {}),
    }


def _slice_documents(outcome: Outcome, metrics: Sequence[Metric[Any]]) -> list[dict[str, Any]]:
    """Every slice with all metrics, and its rows where these are none of the held-out ones."""
    documents = [one.to_api() for one in slice_statuses(outcome.slices, metrics)]
    for document, (name, part) in zip(documents, outcome.slices.items(), strict=True):
        if has_own_rows(name):
            document["rows"] = list(_row_documents(part, [measure(metric, part) for metric in metrics]))
    return documents


def _prompt_document(prompted: Prompted) -> dict[str, Any]:
    answers = {name: {"answer": one.text, "cut": one.cut} for name, one in prompted.answers.items()}
    named = {"name": prompted.name} if prompted.name else {}
    about = {"prompt": prompted.text, "chatTemplate": prompted.chat_template, "tokens": prompted.tokens}
    return {**named, **about, **answers}


def with_gates(document: dict[str, Any], status: EvaluationStatus, judged: Sequence[JudgedGate]) -> dict[str, Any]:
    """report.json with what became of the gates: whole in ``gates``, and as ``status`` has it."""
    evaluation = status.model_copy(update={"samples": []}).to_api()
    return {**document, "evaluation": evaluation, "gates": [one.document for one in judged]}


def _details(measured: Sequence[Measured]) -> dict[str, Any]:
    """What metrics say beside their value, by metric and model."""
    found = {
        one.metric.name: {name: one.metric.details(list(rows.values())) for name, rows in one.rows.items()}
        for one in measured
    }
    return {name: models for name, models in found.items() if any(models.values())}


def _baselines(outcome: Outcome) -> dict[str, Any]:
    found = baselines(outcome.examples)
    return {"baselines": baselines_document(found)} if found else {}


def answered_rows(outcome: Outcome) -> list[AnsweredRow]:
    """The rows that were answered in words, as a judge reads them."""
    base = [one.text for one in outcome.base.answers] if outcome.base else [None] * len(outcome.tuned.answers)
    return [
        AnsweredRow(question.turn.sha256, prompt_text(question.turn), expected_text(question.turn), tuned.text, before)
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
    if found := baselines(outcome.examples):
        yield baselines_line(found)
    if status.retention:
        yield f"retention, {status.retention.examples} rows:"
        yield from (f"  {_metric_line(metric)}" for metric in status.retention.metrics)
    for part in status.slices:
        yield f"slice {part.name}, {part.examples} rows{f' ({part.warning})' if part.warning else ''}:"
        yield from (f"  {_metric_line(metric)}" for metric in part.metrics)
    if more := len(outcome.slices) - len(status.slices):
        yield f"{more} more slices stand in report.json"
    for one in status.latency:
        yield (
            f"{one.name.lower()} ({one.precision}): first token after {one.first_token_milliseconds} ms, then "
            f"{one.tokens_per_second} tokens/s, one prompt at a time"
        )
    yield from (f"gate: {gate_line(gate)}" for gate in status.gates)
    if status.judge:
        yield from (f"judge: {line}" for line in judge_lines(status.judge))
    decided = any(question.choices for question in outcome.questions)
    for name, side in outcome.sides.items() if decided else ():
        agreement = side.scores.agreement
        alike, share = agreement.checked - agreement.different, 1 - agreement.different / max(1, agreement.checked)
        yield (
            f"{name}: batches decided {alike} of {agreement.checked} rows ({share:.1%}) as a plain pass does; "
            f"{agreement.settled} further near-ties were decided by one"
        )
    for name, counts in count_answers(outcome).items():
        yield f"{name}: {counts}"
    own = [_prompted(prompted) for prompted in outcome.prompts]
    for sample in [*own, *status.samples[len(own) :]]:
        # On a line each: no answer can write what looks like a line of ours.
        yield f"prompt{f' {sample.name}' if sample.name else ''}: {_line(sample.prompt)}"
        if sample.expected:
            yield f"  expected: {_line(sample.expected)}"
        for name, answer in (("base", sample.base), ("tuned", sample.tuned)):
            if answer:
                yield f"  {name + ':':9} {_line(answer.text)}{_verdict(answer)}"


def _line(text: str) -> str:
    return one_line(text, len(text))


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
    adjusted = f" ({metric.adjusted_p_value} adjusted)" if metric.adjusted_p_value else ""
    if test := metric.paired_test:
        parts.append(f"only base right {test.base_only}, only tuned right {test.tuned_only}")
    if metric.p_value is not None:
        parts.append(f"p = {metric.p_value}{adjusted}")
    return f"{metric.name}: {', '.join(parts)}"


def _verdict(answer: Answer) -> str:
    if answer.names is None:
        return ""
    if answer.option is not None:
        return f"  [names {answer.option}, {'right' if answer.right else 'wrong'}]"
    return "  [names an option that isn't there]" if answer.names == Names.NO_SUCH_OPTION else "  [names no option]"


def _shown(outcome: Outcome) -> range:
    return range(min(outcome.samples, len(outcome.tuned.answers)))


def _prompted(prompted: Prompted) -> SampleAnswer:
    answers = {name: Answer(text=cut(one.text, 512)) for name, one in prompted.answers.items()}
    return SampleAnswer(name=prompted.name, prompt=cut(prompted.text, 512), expected="", **answers)


def _sample(outcome: Outcome, place: int) -> SampleAnswer:
    turn = outcome.answered[place].turn
    answers = {name: _answer(side.answers[place], turn) for name, side in outcome.sides.items()}
    return SampleAnswer(prompt=cut(prompt_text(turn), 512), expected=cut(expected_text(turn), 256), **answers)


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


def _sample_document(outcome: Outcome, place: int) -> dict[str, Any]:
    turn = outcome.answered[place].turn
    document: dict[str, Any] = {"sha256": turn.sha256, "prompt": prompt_text(turn), "expected": expected_text(turn)}
    for name, side in outcome.sides.items():
        generated = side.answers[place]
        document[name] = {"answer": cut(generated.text, _MAX_ANSWER), "cut": generated.cut}
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
                if (options := choices[index]) and row.option is not None
            )
            for one in measured
            if isinstance(one.metric, ChoiceMetric | GeneratedAccuracy) and one.rows
        }
    return counts


def _sorted_counts(letters: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(letters).items()))


def _row_documents(outcome: Outcome, measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Every row: with its options and what was chosen, else with each response, or window, that was scored."""
    parts: dict[int, list[int]] = {}
    written = _written(outcome, measured)
    for index, question in enumerate(outcome.questions):
        parts.setdefault(question.row, []).append(index)
    for row, example in enumerate(outcome.examples):
        seen = [_seen(outcome, measured, written, index) for index in parts.get(row, [])]
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
            said = [{"prompt": _part(prompt_text(turn)), "expected": _part(expected_text(turn))} for turn in turns]
            responses = [{**texts, **one} for texts, one in zip(said, seen, strict=True)]
            yield {"sha256": example.sha256, "where": example.where, "responses": responses}


def _written(outcome: Outcome, measured: Sequence[Measured]) -> dict[str, dict[int, Generated]]:
    """What each model wrote, by question, where a metric looks at all answers."""
    if not any(isinstance(one.metric, AnswerMetric) for one in measured):
        return {}
    places = outcome.answered_places
    return {name: dict(zip(places, side.answers, strict=True)) for name, side in outcome.sides.items()}


def _seen(
    outcome: Outcome, measured: Sequence[Measured], written: dict[str, dict[int, Generated]], index: int
) -> dict[str, Any]:
    """What each metric saw in a question, by model, and the answer that it saw."""
    seen: dict[str, Any] = {}
    for name in outcome.sides:
        answer = written.get(name, {}).get(index)
        seen[name] = {"answer": {"text": _part(answer.text), "cut": answer.cut}} if answer else {}
        for one in measured:
            if one.rows and index in one.rows[name]:
                seen[name][one.metric.name] = one.metric.document(outcome.questions[index], one.rows[name][index])
    return seen


def _part(text: str) -> str:
    """A row's text cut for the report: its digest and its place find the whole."""
    return cut(text, _MAX_TEXT)
