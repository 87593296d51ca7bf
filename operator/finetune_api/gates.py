"""``spec.evaluation.gates``: what the tuned model has to come to, or the job fails though its stages ended well."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from finetune_api.base import ApiModel, FieldError, Word
from finetune_api.rules import Decimal, Within, rule, validations
from finetune_api.uris import DestinationURI

MAX_GATES = 8
# What is measured of retention rows: see finetune_trainer.evaluation.metrics.retention_metrics.
RETENTION_METRICS = ("Accuracy", "Perplexity")

# Criteria by what they look at.
_OF_HELD_OUT = ("minimum", "maximum", "minimumGain", "significance", "notWorseThan")
_OF_BASE = ("minimumGain", "significance", "maximumRetentionLoss")
_CRITERIA = (*_OF_HELD_OUT, "maximumRetentionLoss")

_NONE = f"a gate needs at least one of {', '.join(_CRITERIA)}"
_CROSSED = "minimum is above maximum: no value passes"
_NOT_RETAINED = f"maximumRetentionLoss: of retention rows there are {' and '.join(RETENTION_METRICS)} only"
UNKNOWN_METRIC = "a gate's metric is measured only where evaluation.metrics or evaluation.checks name it"
NO_BASE = f"{', '.join(_OF_BASE)} compare with the base model: set compareWithBase true"
NO_RETENTION = "maximumRetentionLoss looks at the rows of a general dataset: set evaluation.retention"


def _any(fields: tuple[str, ...], of: str) -> str:
    return " || ".join(f"has({of}.{name})" for name in fields)


class NotWorseThanSpec(ApiModel):
    """An earlier evaluation of the same rows, and how much worse than its tuned model this one may be."""

    report: DestinationURI = Field(
        description="pvc://<claim>/<path>: an evaluation's report.json, or the folder that it lies in. Rows are paired "
        "by their sha256."
    )
    margin: Annotated[Decimal, Within(0, 1000, above=True)] = Field(
        description="What the metric may be worse by at most: of shares of rows absolute, so that 0.02 is 2 points; of "
        "Perplexity relative, so that 0.02 is 2%. That it isn't worse by more must be shown by the rows: the smaller "
        "the margin, the more of them it takes."
    )


class GateSpec(ApiModel):
    """What a metric of the tuned model has to come to: all that is set here must hold."""

    model_config = {
        "json_schema_extra": validations(
            rule(_any(_CRITERIA, "self"), _NONE),
            rule(
                "!has(self.minimum) || !has(self.maximum) || double(self.minimum) <= double(self.maximum)",
                _CROSSED,
                ".minimum",
            ),
            rule(
                f"!has(self.maximumRetentionLoss) || self.metric in {list(RETENTION_METRICS)}",
                _NOT_RETAINED,
                ".metric",
            ),
        )
    }

    # No enum: the rules of spec.evaluation say which there are.
    metric: Word = Field(description="As in evaluation.metrics; for maximumRetentionLoss Accuracy or Perplexity.")
    minimum: Decimal | None = Field(default=None, description="The tuned model's value is at least this.")
    maximum: Decimal | None = Field(
        default=None, description="The tuned model's value is at most this, for metrics of which less is better."
    )
    minimum_gain: Decimal | None = Field(
        default=None,
        description="The tuned model is better than the base model by at least this: of shares of rows absolute, so "
        "that 0.02 is 2 points; of Perplexity relative, so that 0.02 is 2% less.",
    )
    significance: Annotated[Decimal, Within(0, 0.5, above=True)] | None = Field(
        default=None,
        description="The tuned model is better than the base model, and the p-value of the paired test (two-sided) is "
        "below this; usually 0.05. It is also the level of this gate's intervals, else 0.05.",
    )
    not_worse_than: NotWorseThanSpec | None = Field(
        default=None, description="The tuned model is not worse than that of an earlier evaluation on the same rows."
    )
    maximum_retention_loss: Decimal | None = Field(
        default=None,
        description="On the retention rows the tuned model is worse than the base model by at most this: Accuracy in "
        "points, so that 0.02 is 2 of them; Perplexity relative. As with notWorseThan the rows must show it.",
    )

    @property
    def of_held_out(self) -> bool:
        """Whether it looks at the held-out rows at all."""
        return any(getattr(self, name) is not None for name in _names(_OF_HELD_OUT))

    @property
    def of_base(self) -> bool:
        """Whether it compares with the base model."""
        return any(getattr(self, name) is not None for name in _names(_OF_BASE))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(getattr(self, name) is not None for name in _names(_CRITERIA)):
            raise ValueError(_NONE)
        if self.minimum is not None and self.maximum is not None and float(self.minimum) > float(self.maximum):
            raise FieldError("minimum", _CROSSED)
        if self.maximum_retention_loss is not None and self.metric not in RETENTION_METRICS:
            raise FieldError("metric", _NOT_RETAINED)
        return self


def _names(aliases: tuple[str, ...]) -> list[str]:
    return [name for name, field in GateSpec.model_fields.items() if field.alias in aliases]


# Of spec.evaluation, since they look at what stands beside the gates.
GATE_RULES = (
    rule(
        "!has(self.gates) || self.gates.all(gate, gate.metric in self.metrics || (has(self.checks) && "
        f"self.checks.exists(check, check.name == gate.metric)) || !({_any(_OF_HELD_OUT, 'gate')}))",
        UNKNOWN_METRIC,
        ".gates",
    ),
    rule(
        f"self.compareWithBase || !has(self.gates) || !self.gates.exists(gate, {_any(_OF_BASE, 'gate')})",
        NO_BASE,
        ".gates",
    ),
    rule(
        "has(self.retention) || !has(self.gates) || !self.gates.exists(gate, has(gate.maximumRetentionLoss))",
        NO_RETENTION,
        ".gates",
    ),
)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the rows, so that its differences are told in points."""
    return metric.endswith(("Accuracy", "Consistency", "Rate"))
