"""Rate limits. Time is an argument: seconds of a monotonic clock."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """So many a second on average, and so many at once."""

    per_second: float
    burst: int


class TokenBucket:
    """A token bucket, full at first."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._filled = now

    def available(self, now: float) -> int:
        """Whole tokens that can be taken now."""
        elapsed = max(0.0, now - self._filled)
        self._tokens = min(float(self._rate.burst), self._tokens + elapsed * self._rate.per_second)
        self._filled = now
        return int(self._tokens)

    def take(self, now: float) -> float:
        """Takes a token and returns 0, or takes none and returns the seconds until there is one."""
        if self.available(now):
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate.per_second


class SubjectLimits:
    """A bucket per subject, for the subjects last seen."""

    def __init__(self, rate: Rate, subjects: int) -> None:
        self._rate = rate
        self._subjects = subjects
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, subject: str, now: float) -> float:
        """Takes a token of the subject's: see TokenBucket.take."""
        bucket = self._buckets.pop(subject, None) or TokenBucket(self._rate, now)
        self._buckets[subject] = bucket
        if len(self._buckets) > self._subjects:
            self._buckets.popitem(last=False)
        return bucket.take(now)
