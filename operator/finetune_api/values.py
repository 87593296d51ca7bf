"""A measured value and its interval, as every part of a result writes them."""

from __future__ import annotations

from pydantic import Field

from finetune_api.base import Number, StatusModel


class Interval(StatusModel):
    """A 95% interval: of a proportion the Wilson score interval (Wilson 1927), of BLEU and ChrF by bootstrap."""

    low: Number = Field(description="Lower end.")
    high: Number = Field(description="Upper end.")


class MetricValue(StatusModel):
    """A metric of one model."""

    value: Number = Field(description="The value; accuracies, rates and checks are proportions from 0 to 1.")
    interval95: Interval | None = Field(default=None, description="95% interval, where the metric has one.")
