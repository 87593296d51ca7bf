"""``spec.evaluation``: what is measured after training, and on which rows."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from finetune_api.base import ApiModel
from finetune_api.held_out import EvaluationDatasetSpec
from finetune_api.prompts import MAX_PROMPTS, PROMPT_TWICE, PromptSpec
from finetune_api.rules import rule, validations
from finetune_api.slices import MAX_SLICES, SLICE_TWICE, SliceSpec

MetricName = Literal["Accuracy", "LetterAccuracy", "Perplexity"]
_METRIC_TWICE = "a metric is named twice"


class LatencySpec(ApiModel):
    """How fast the models answer, one prompt at a time."""

    new_tokens: int = Field(default=64, ge=2, le=1024, description="Tokens of each answer, whatever it says.")
    prompts: int = Field(default=8, ge=1, le=64, description="Held-out rows that are answered, once by each model.")


class EvaluationSpec(ApiModel):
    """What is measured after training, on base and tuned alike."""

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
    slices: list[SliceSpec] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SLICES,
        description="Parts of the held-out rows by a column's values, and rows of edge cases, each with all metrics of "
        "its own. Their p-values are adjusted for how many slices there are (Holm 1979).",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    prompts: list[PromptSpec] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PROMPTS,
        description="Prompts of your own, answered by base and tuned, side by side.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(
                rule(
                    "self.all(one, !has(one.name) || "
                    "self.exists_one(other, has(other.name) && other.name == one.name))",
                    PROMPT_TWICE,
                )
            ),
        },
    )
    latency: LatencySpec | None = Field(
        default=None,
        description="Measures how fast base, base with adapter, and the model with the adapter merged into its weights "
        "answer, one prompt at a time. {}: with the defaults. Left out: not measured.",
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

    @field_validator("slices")
    @classmethod
    def _check_slices(cls, slices: list[SliceSpec] | None) -> list[SliceSpec] | None:
        names = [one.name for one in slices or ()]
        if len(set(names)) < len(names):
            raise ValueError(SLICE_TWICE)
        return slices

    @field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: list[PromptSpec] | None) -> list[PromptSpec] | None:
        names = [one.name for one in prompts or () if one.name]
        if len(set(names)) < len(names):
            raise ValueError(PROMPT_TWICE)
        return prompts
