"""``status.evaluation.judge``: what a language model thinks of the answers, and what became of asking it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from finetune_api.base import Count, Number, Short, StatusModel, Word
from finetune_api.values import MetricValue


class JudgeScore(StatusModel):
    """Points of one criterion, 1 to 5, mean over the answers."""

    name: Word = Field(description="As in spec.evaluation.judge.rubric.")
    base: MetricValue | None = Field(default=None, description="The base model's answers.")
    tuned: MetricValue | None = Field(default=None, description="The tuned model's answers.")
    difference: Number | None = Field(default=None, description="Tuned minus base, of rows where both were judged.")
    p_value: Number | None = Field(
        default=None, description="Two-sided exact sign test on the rows where one has more points than the other."
    )


class JudgePreference(StatusModel):
    """Which answer the judge finds better, by rows."""

    tuned: Count = Field(description="Rows where it prefers the tuned model's, in either order.")
    base: Count = Field(description="Rows where it prefers the base model's, in either order.")
    tie: Count = Field(description="Rows without a preference, or with one that did not survive the other order.")
    swayed: Count = Field(default=0, description="Comparisons in which whichever answer stood in one place won.")
    p_value: Number | None = Field(default=None, description="Two-sided exact sign test of tuned against base.")


class JudgeAgreement(StatusModel):
    """How far repeated judgements of the same answers agree."""

    name: Word = Field(description="A criterion, or Preference.")
    equal: Number = Field(description="Share of answers that were judged the same every time.")
    alpha: Number | None = Field(
        default=None,
        description="Krippendorff's alpha: of intervals for points, nominal for preferences. Absent where all "
        "judgements are the same.",
    )


_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class JudgeStatus(StatusModel):
    """What a language model thinks of the answers."""

    endpoint: Short = Field(description="Where it was asked.")
    model: Short = Field(description="The judge, by the name that it gives itself.")
    outcome: Word = Field(
        description="Complete; Unusable (some replies were no judgement); Incomplete (some were not asked for or got "
        "no reply); or Failed: there is no judgement."
    )
    message: Annotated[str, Field(max_length=256)] | None = Field(default=None, description="Why it is not Complete.")
    judged: Count = Field(description="Judgements that count.")
    unusable: Count = Field(default=0, description="Replies that were no judgement, even when asked for again.")
    unanswered: Count = Field(default=0, description="Requests that failed, with their retries.")
    unjudged: Count = Field(default=0, description="Judgements that the budget did not reach.")
    requests: Count = Field(default=0, description="Requests that were sent.")
    scores: list[JudgeScore] = Field(
        default=[], max_length=8, description="One entry per criterion.", json_schema_extra=_BY_NAME
    )
    preference: JudgePreference | None = Field(default=None, description="With pairwise: which answer is better.")
    agreement: list[JudgeAgreement] = Field(
        default=[], max_length=9, description="With repeats: the judge against itself.", json_schema_extra=_BY_NAME
    )
