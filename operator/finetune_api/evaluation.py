"""``spec.evaluation``: what is measured after training, and on which rows."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from finetune_api.base import ApiModel
from finetune_api.checks import MAX_CHECKS, CheckSpec, check_names, check_names_rule
from finetune_api.held_out import EvaluationDatasetSpec
from finetune_api.rules import rule, validations

MetricName = Literal[
    "Accuracy",
    "LetterAccuracy",
    "Perplexity",
    "GeneratedAccuracy",
    "InvalidAnswerRate",
    "EmptyAnswerRate",
    "CutAnswerRate",
    "BLEU",
    "ChrF",
]
_METRIC_TWICE = "a metric is named twice"


class EvaluationSpec(ApiModel):
    """What is measured after training, on base and tuned alike."""

    dataset: EvaluationDatasetSpec = Field(description="Held-out rows.")
    compare_with_base: bool = Field(default=True, description="Score the base model on the same rows.")
    metrics: list[MetricName] = Field(
        default=["Accuracy", "LetterAccuracy", "Perplexity"],
        min_length=1,
        max_length=len(get_args(MetricName)),
        description="Accuracy: the option whose filled response template is likeliest per token, after what all "
        "options share. LetterAccuracy: the likeliest letter as the first token. Perplexity: of the right response. "
        "The others are of answers in words, for which all rows are answered. GeneratedAccuracy: the answer names the "
        "right option. InvalidAnswerRate: it names one that isn't there. EmptyAnswerRate: it says nothing. "
        "CutAnswerRate: it was cut at maxNewTokens. BLEU, ChrF: how far it agrees with the right response, 0 to 100.",
        # No set: those are equal in any order, and the first metric makes the summary.
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(rule("self.all(one, self.exists_one(other, other == one))", _METRIC_TWICE)),
        },
    )
    retention: EvaluationDatasetSpec | None = Field(
        default=None,
        description="Rows of a general dataset: did the model forget? Their perplexity is measured before training, "
        "while it goes on and after it, and of rows with options the accuracy of base and tuned.",
    )
    max_new_tokens: int = Field(default=128, ge=1, le=4096, description="Longest sampled answer, in tokens.")
    sample_prompts: int = Field(
        default=3, ge=0, le=32, description="Rows that base and tuned also answer in words, side by side."
    )

    checks: list[CheckSpec] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CHECKS,
        description="What all answers in words are checked for: their format, terms that they must or mustn't have, "
        "refusals. Each stands among the metrics of the result under its name, as the share of answers that pass.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(check_names_rule(get_args(MetricName))),
        },
    )

    @field_validator("checks")
    @classmethod
    def _check_names(cls, checks: list[CheckSpec] | None) -> list[CheckSpec] | None:
        check_names(checks or [], get_args(MetricName))
        return checks

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: list[MetricName]) -> list[MetricName]:
        if len(set(metrics)) < len(metrics):
            raise ValueError(_METRIC_TWICE)
        return metrics
