"""``spec.evaluation``: what is measured after training, and on which rows."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from finetune_api.base import ApiModel, FieldError
from finetune_api.held_out import EvaluationDatasetSpec
from finetune_api.judge import JUDGE_RULES, PAIRWISE_WITHOUT_BASE, JudgeSpec
from finetune_api.rules import rule, validations

MetricName = Literal["Accuracy", "LetterAccuracy", "Perplexity"]
_METRIC_TWICE = "a metric is named twice"


class LatencySpec(ApiModel):
    """How fast the models answer, one prompt at a time."""

    new_tokens: int = Field(default=64, ge=2, le=1024, description="Tokens of each answer, whatever it says.")
    prompts: int = Field(default=8, ge=1, le=64, description="Held-out rows that are answered, once by each model.")


class EvaluationSpec(ApiModel):
    """What is measured after training, on base and tuned alike."""

    model_config = {"json_schema_extra": validations(*JUDGE_RULES)}

    dataset: EvaluationDatasetSpec = Field(description="Held-out rows.")
    compare_with_base: bool = Field(default=True, description="Score the base model on the same rows.")
    metrics: list[MetricName] = Field(
        default=["Accuracy", "LetterAccuracy", "Perplexity"],
        min_length=1,
        max_length=len(get_args(MetricName)),
        description="Accuracy: the option whose filled response template is likeliest per token, after what all "
        "options share. LetterAccuracy: the likeliest letter as the first token. Perplexity: of the right response.",
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
    latency: LatencySpec | None = Field(
        default=None,
        description="Measures how fast base, base with adapter, and the model with the adapter merged into its weights "
        "answer, one prompt at a time. {}: with the defaults. Left out: not measured.",
    )
    judge: JudgeSpec | None = Field(
        default=None,
        description="A language model that judges the answers in words. One that is down, late or talks nonsense costs "
        "its judgements and nothing else. Left out: none is asked.",
    )
    max_new_tokens: int = Field(default=128, ge=1, le=4096, description="Longest sampled answer, in tokens.")
    sample_prompts: int = Field(
        default=3, ge=0, le=32, description="Rows that base and tuned also answer in words, side by side."
    )

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: list[MetricName]) -> list[MetricName]:
        if len(set(metrics)) < len(metrics):
            raise ValueError(_METRIC_TWICE)
        return metrics

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.judge and self.judge.pairwise and not self.compare_with_base:
            raise FieldError("judge", PAIRWISE_WITHOUT_BASE)
        return self
