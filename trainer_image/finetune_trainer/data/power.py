"""How large a difference so many rows can tell, and how many rows a difference takes. Pure functions of counts.

``share`` is the discordant share: of the rows, those that one of two models has right and the other hasn't. ``alpha``
is the two-sided level of the test or of the interval, and power is 80% throughout.
"""

from __future__ import annotations

import math
from statistics import NormalDist

DEFAULT_ALPHA = 0.05
POWER = 0.8
_Z_POWER = NormalDist().inv_cdf(POWER)


def two_sided(alpha: float) -> float:
    """The quantile of the normal distribution that a two-sided test or interval of level ``alpha`` takes."""
    return NormalDist().inv_cdf(1 - alpha / 2)


def detectable_gain(n: int, share: float, alpha: float = DEFAULT_ALPHA) -> float:
    """The minimum detectable difference of two accuracies on the same ``n`` rows, by McNemar's test.

    Connor 1987 (Biometrics 43:207), n d**2 = (z_a sqrt(s) + z_b sqrt(s - d**2))**2, solved for d. A difference can't
    exceed the discordant share s: a result above it says that these rows tell none. Infinite for no rows.
    """
    if n <= 0 or share <= 0:
        return math.inf
    z = two_sided(alpha)
    under_root = z * z * n - (n + _Z_POWER**2) * (z * z - _Z_POWER**2)
    return math.sqrt(share) * (z * math.sqrt(n) + math.sqrt(max(0.0, under_root))) / (n + _Z_POWER**2)


def rows_for_gain(gain: float, share: float, alpha: float = DEFAULT_ALPHA) -> int:
    """The rows that McNemar's test takes for a difference (Connor 1987). Raises ValueError unless 0 < gain <= share."""
    if not 0 < gain <= share:
        raise ValueError("a difference lies between nothing and the discordant share")
    spread = two_sided(alpha) * math.sqrt(share) + _Z_POWER * math.sqrt(max(0.0, share - gain * gain))
    return math.ceil((spread / gain) ** 2)


def showable_margin(n: int, share: float, alpha: float = DEFAULT_ALPHA) -> float:
    """The least margin by which ``n`` rows show that a model that is as good as another is not worse.

    Liu and others 2002 (Statistics in Medicine 21:231): (z_a + z_b) sqrt(s / n). Infinite for no rows.
    """
    return (two_sided(alpha) + _Z_POWER) * math.sqrt(share / n) if n > 0 else math.inf


def rows_for_margin(margin: float, share: float, alpha: float = DEFAULT_ALPHA) -> int:
    """The rows that it takes to show that a model that is as good as another is not worse by more than a margin."""
    return math.ceil(share * ((two_sided(alpha) + _Z_POWER) / margin) ** 2)


def detectable_shortfall(n: int, share: float, alpha: float = DEFAULT_ALPHA) -> float:
    """How far a share of ``n`` rows must be from a bound to be told from it: (z_a + z_b) sqrt(p (1 - p) / n)."""
    return (two_sided(alpha) + _Z_POWER) * math.sqrt(share * (1 - share) / n) if n > 0 else math.inf
