"""From verdicts to the judge's section of the result, its lines in the log, and advice. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from finetune_api.base import cut, number
from finetune_api.judge import JudgeSpec
from finetune_api.judge_status import JudgeAgreement, JudgePreference, JudgeScore, JudgeStatus
from finetune_api.results import Advice, StageResult
from finetune_api.values import Interval, MetricValue
from finetune_trainer.evaluation.judge.agreement import equal_share, interval, krippendorff_alpha, nominal
from finetune_trainer.evaluation.judge.tasks import BASE, TUNED, Judgement, State
from finetune_trainer.evaluation.judge.verdicts import TIE, Verdicts
from finetune_trainer.evaluation.statistics import mcnemar_exact, wilson_interval

COMPLETE, UNUSABLE, INCOMPLETE, FAILED = "Complete", "Unusable", "Incomplete", "Failed"
_LOWEST, _HIGHEST = 1, 5
_DIGITS = 4
# Krippendorff 2004, Content Analysis, chapter 11: below it, judgements support no conclusion.
_LOWEST_ALPHA = 0.667
_MANY_SWAYED = 0.25  # of comparisons
_MANY_UNUSABLE = 0.1  # of replies
DEFINITIONS = {
    "scores": "mean points, 1 to 5; each row counts once, as the mean of its repeats. interval95 is Wilson's of the "
    "mean on a scale of 0 to 1: nothing on that scale varies more than a proportion of the same mean, so it is rather "
    "too wide. pValue is that of the exact sign test",
    "preference": "a row counts for the model whose answer more than half of the repeats prefer in either order; same "
    "answers are a tie. pValue is that of the exact sign test, without ties",
    "agreement": "Krippendorff's alpha (2011) of the repeats, intervals for points, nominal for preferences; equal: "
    "share of answers that were judged the same every time",
}


@dataclass(frozen=True)
class Judged:
    """What the judge came to: a section of the result, one of report.json, and advice."""

    status: JudgeStatus
    document: dict[str, Any]
    advice: list[Advice]


def judge_status(
    spec: JudgeSpec,
    model: str,
    requests: int,
    judgements: Sequence[Judgement],
    verdicts: Verdicts,
    stopped: str,
) -> JudgeStatus:
    """The section of the result. ``stopped`` says why judging ended before its time, or is empty."""
    states = Counter(one.state for one in judgements)
    outcome = _outcome(states)
    return JudgeStatus(
        endpoint=spec.endpoint,
        model=model or spec.model,
        outcome=outcome,
        message=None if outcome == COMPLETE else _message(judgements, stopped),
        judged=states[State.JUDGED],
        unusable=states[State.UNUSABLE],
        unanswered=states[State.UNANSWERED],
        unjudged=states[State.UNJUDGED],
        requests=requests,
        scores=[_score(name, verdicts) for name in spec.rubric if verdicts.points.get(name)],
        preference=_preference(verdicts),
        agreement=_agreements(spec, verdicts) if spec.repeats > 1 else [],
    )


def _outcome(states: Mapping[State, int]) -> str:
    if not states.get(State.JUDGED):
        return FAILED
    if states.get(State.UNANSWERED) or states.get(State.UNJUDGED):
        return INCOMPLETE
    return UNUSABLE if states.get(State.UNUSABLE) else COMPLETE


def _message(judgements: Sequence[Judgement], stopped: str) -> str:
    if not judgements:
        return "no row is answered in words: there is nothing to judge"
    failed = next((one.problem for one in judgements if one.state is State.UNANSWERED), "")
    nonsense = next((one.problem for one in judgements if one.state is State.UNUSABLE), "")
    parts = [stopped, failed if failed not in stopped else "", f"no judgement: {nonsense}" if nonsense else ""]
    return cut("; ".join(part for part in parts if part), 256)


def _score(name: str, verdicts: Verdicts) -> JudgeScore:
    base, tuned = verdicts.means(name, BASE), verdicts.means(name, TUNED)
    score = JudgeScore(name=name, base=_mean(base), tuned=_mean(tuned))
    both = [(base[row], tuned[row]) for row in base if row in tuned]
    if not both:
        return score
    better, worse = sum(one < other for one, other in both), sum(one > other for one, other in both)
    difference = fmean(other - one for one, other in both)
    update = {"difference": number(difference, _DIGITS), "p_value": number(mcnemar_exact(worse, better), 3)}
    return score.model_copy(update=update)


def _mean(by_row: Mapping[int, float]) -> MetricValue | None:
    if not by_row:
        return None
    span, values = _HIGHEST - _LOWEST, list(by_row.values())
    ends = wilson_interval(sum((value - _LOWEST) / span for value in values), len(values))
    low, high = (number(_LOWEST + span * end, _DIGITS) for end in ends)
    return MetricValue(value=number(fmean(values), _DIGITS), interval95=Interval(low=low, high=high))


def _preference(verdicts: Verdicts) -> JudgePreference | None:
    if not verdicts.preferences:
        return None
    counts = Counter(verdicts.preferred.values())
    base, tuned = counts[BASE], counts[TUNED]
    p_value = number(mcnemar_exact(base, tuned), 3)
    return JudgePreference(tuned=tuned, base=base, tie=counts[TIE], swayed=verdicts.swayed, p_value=p_value)


def _agreements(spec: JudgeSpec, verdicts: Verdicts) -> list[JudgeAgreement]:
    found = [
        _agreement(name, equal_share(units), krippendorff_alpha(units, interval))
        for name in spec.rubric
        for units in [list(verdicts.points.get(name, {}).values())]
    ]
    pairs = list(verdicts.preferences.values())
    found.append(_agreement("Preference", equal_share(pairs), krippendorff_alpha(pairs, nominal)))
    return [one for one in found if one]


def _agreement(name: str, equal: float | None, alpha: float | None) -> JudgeAgreement | None:
    if equal is None:
        return None
    return JudgeAgreement(
        name=name, equal=number(equal, _DIGITS), alpha=None if alpha is None else number(alpha, _DIGITS)
    )


def is_judged(result: StageResult) -> bool:
    """Whether a judge gave all judgements that it was asked for, or none was: else there is something to do again."""
    judge = result.evaluation.judge if result.evaluation else None
    return judge is None or judge.outcome in (COMPLETE, UNUSABLE)


def judge_advice(status: JudgeStatus, repeats: int) -> list[Advice]:
    """What to know of a judge that was not there, or is not to be relied on."""
    advice = []
    replied, missing = status.judged + status.unusable, status.unanswered + status.unjudged
    if missing or not replied:
        text = (
            f"the judge gave {status.judged} of {replied + missing} judgements ({status.message}): the other figures "
            "stand; mend that and apply under a new name to have it judge, the adapter is reused"
        )
        advice.append(Advice(reason="JudgeIncomplete", message=text))
    if status.unusable > _MANY_UNUSABLE * replied:
        text = (
            f"{status.unusable} replies of the judge were no judgement ({status.message}): take a model that follows "
            "instructions, or raise maxReplyTokens"
        )
        advice.append(Advice(reason="JudgeUnusable", message=text))
    pairs = status.preference
    if pairs and pairs.swayed > _MANY_SWAYED * repeats * (pairs.tuned + pairs.base + pairs.tie):
        text = f"in {pairs.swayed} comparisons the judge preferred a place and not an answer; these count as ties"
        advice.append(Advice(reason="JudgeSwayed", message=text))
    if low := [one.name for one in status.agreement if one.alpha and float(one.alpha) < _LOWEST_ALPHA]:
        text = (
            f"the judge agrees too little with itself on {', '.join(low)} (alpha below {_LOWEST_ALPHA}) to decide by it"
        )
        advice.append(Advice(reason="JudgeDisagrees", message=text))
    return advice


def judge_lines(status: JudgeStatus) -> Iterator[str]:
    """The section for the log and for the summary of a local run."""
    counts = [
        f"{count} {name}"
        for name, count in (
            ("unusable", status.unusable),
            ("without a reply", status.unanswered),
            ("not asked for", status.unjudged),
        )
        if count
    ]
    yield ", ".join([f"{status.model}: {status.judged} judgements", *counts]) + (
        f" ({status.message})" if status.message else ""
    )
    for score in status.scores:
        sides = [f"{name} {_value(side)}" for name, side in ((BASE, score.base), (TUNED, score.tuned)) if side]
        yield ", ".join([f"{score.name}: {sides[0]}", *sides[1:], *([f"p = {score.p_value}"] if score.p_value else [])])
    if pairs := status.preference:
        yield f"preferred: tuned {pairs.tuned}, base {pairs.base}, tie {pairs.tie}, p = {pairs.p_value}"
    for one in status.agreement:
        alpha = "all the same" if one.alpha is None else f"alpha {one.alpha}"
        yield f"agreement on {one.name}: {alpha}, {float(one.equal):.0%} equal"


def _value(value: MetricValue) -> str:
    between = f" [{value.interval95.low}, {value.interval95.high}]" if value.interval95 else ""
    return f"{value.value}{between}"
