"""``spec.evaluation``: what is measured after training, and on which rows."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from finetune_api.base import ApiModel, FieldError
from finetune_api.checks import MAX_CHECKS, CheckSpec, check_names, check_names_rule
from finetune_api.gates import GATE_RULES, MAX_GATES, NO_BASE, NO_RETENTION, UNKNOWN_METRIC, GateSpec
from finetune_api.held_out import EvaluationDatasetSpec
from finetune_api.judge import JUDGE_RULES, PAIRWISE_WITHOUT_BASE, JudgeSpec
from finetune_api.prompts import MAX_PROMPTS, PROMPT_TWICE, PromptSpec
from finetune_api.rules import rule, validations
from finetune_api.slices import MAX_SLICES, SLICE_TWICE, SliceSpec

MetricName = Literal[
    "Accuracy",
    "LetterAccuracy",
    "Perplexity",
    "SumAccuracy",
    "CharacterAccuracy",
    "ByteAccuracy",
    "CalibrationError",
    "OrderConsistency",
    "LetterOrderConsistency",
    "GeneratedAccuracy",
    "InvalidAnswerRate",
    "EmptyAnswerRate",
    "CutAnswerRate",
    "BLEU",
    "ChrF",
]
_METRIC_TWICE = "a metric is named twice"


class LatencySpec(ApiModel):
    """How fast the models answer, one prompt at a time."""

    new_tokens: int = Field(default=64, ge=2, le=1024, description="Tokens of each answer, whatever it says.")
    prompts: int = Field(default=8, ge=1, le=64, description="Held-out rows that are answered, once by each model.")


class EvaluationSpec(ApiModel):
    """What is measured after training, on base and tuned alike."""

    model_config = {"json_schema_extra": validations(*GATE_RULES, *JUDGE_RULES)}

    dataset: EvaluationDatasetSpec = Field(description="Held-out rows.")
    compare_with_base: bool = Field(default=True, description="Score the base model on the same rows.")
    metrics: list[MetricName] = Field(
        default=["Accuracy", "LetterAccuracy", "Perplexity"],
        min_length=1,
        max_length=len(get_args(MetricName)),
        description="Accuracy: the option whose filled response template is likeliest per token, after what all "
        "options share. LetterAccuracy: the likeliest letter as the first token. Perplexity: of the right response. "
        "SumAccuracy, CharacterAccuracy, ByteAccuracy: by the whole response's log-likelihood, and that per "
        "character and per byte (acc, acc_norm and acc_bytes of lm-evaluation-harness). CalibrationError: of the "
        "options' probabilities. OrderConsistency, LetterOrderConsistency: whether Accuracy and LetterAccuracy choose "
        "the same text with the options in another order; rows are scored twice. "
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
    judge: JudgeSpec | None = Field(
        default=None,
        description="A language model that judges the answers in words. One that is down, late or talks nonsense costs "
        "its judgements and nothing else. Left out: none is asked.",
    )
    max_new_tokens: int = Field(default=128, ge=1, le=4096, description="Longest sampled answer, in tokens.")
    sample_prompts: int = Field(
        default=3, ge=0, le=32, description="Rows that base and tuned also answer in words, side by side."
    )
    gates: list[GateSpec] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_GATES,
        description="What the tuned model has to come to. Each gate ends as Passed, Failed, or Inconclusive, where the "
        "rows are too few to tell; only if all have passed does the job succeed. The adapter is kept in any case.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
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

    @model_validator(mode="after")
    def _check_gates(self) -> Self:
        gates = self.gates or []
        measured = {*self.metrics, *(check.name for check in self.checks or [])}
        if any(gate.of_held_out and gate.metric not in measured for gate in gates):
            raise FieldError("gates", UNKNOWN_METRIC)
        if not self.compare_with_base and any(gate.of_base for gate in gates):
            raise FieldError("gates", NO_BASE)
        if not self.retention and any(gate.maximum_retention_loss is not None for gate in gates):
            raise FieldError("gates", NO_RETENTION)
        return self

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

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.judge and self.judge.pairwise and not self.compare_with_base:
            raise FieldError("judge", PAIRWISE_WITHOUT_BASE)
        return self
