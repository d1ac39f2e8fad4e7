"""The relatedness contrast: estimate, tests, equivalence, verdict.

Shapes are suffixes: L languages, R related, C controls. The language is the unit of replication:
the items of one language share whatever that language does to the model, so a test over items would
count one effect many times.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.permutation import PermutationTest, permutation_test
from isogloss.stats.power import minimum_detectable_effect
from isogloss.stats.t_tests import WelchTest, tost, welch_test
from isogloss.types import FloatArray, Verdict


class Contrast(NamedTuple):
    """Mean gain of related languages minus mean gain of controls, in the unit of the gains.

    `tost_p` is the larger p of two one-sided tests against the margin; it and `margin` are None on
    a scale without a margin. `spread` is the standard deviation of gains within the groups
    (n - 2 degrees of freedom).
    """

    estimate: float
    mean_related: float
    mean_control: float
    n_related: int
    n_control: int
    permutation: PermutationTest
    welch: WelchTest
    margin: float | None
    tost_p: float | None
    spread: float
    minimum_detectable_effect: float
    verdict: Verdict


def relatedness_contrast(
    gain_L: npt.ArrayLike, related_L: npt.ArrayLike, margin: float | None, *, seed: int = 0
) -> Contrast:
    """Mean gain of related languages minus that of controls, with languages as replicates.

    `gain_L` [L] holds one gain per language in any unit; `related_L` [L] is True for related
    languages. `margin`, in the unit of the gains, is the smallest difference that matters, stated
    in advance; None on a scale without one. `seed` matters only beyond 200,000 relabellings.

    The verdict is the first of these that applies:

    1. `equivalent`: the 90% permutation interval lies within plus or minus `margin` (two one-sided
       tests at 5%, Schuirmann 1987). It comes first: a difference smaller than the margin stays so
       even when it is measured precisely enough to differ from zero.
    2. `related gain more` or `related gain less`: the 95% permutation interval excludes zero.
    3. `inconclusive`: neither. This is not evidence that the groups gain alike.

    The minimum detectable effect uses the observed spread.

    Raises ComparisonError with fewer than two languages in a group or a gain that is not finite,
    ConfigError if the margin is not positive.
    """
    gain, related = np.asarray(gain_L, dtype=np.float64), np.asarray(related_L, dtype=bool)
    n_related, n_control = int(related.sum()), int((~related).sum())
    if min(n_related, n_control) < 2:
        raise ComparisonError(
            f"a relatedness contrast needs at least 2 related and 2 control languages, but got "
            f"{n_related} related and {n_control} control."
        )
    if not np.isfinite(gain).all():
        raise ComparisonError(f"gains must be finite, but got {gain[~np.isfinite(gain)][0]}.")
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"`margin` must be positive but got {margin}.")
    mean_related, mean_control = float(gain[related].mean()), float(gain[~related].mean())
    permutation = permutation_test(gain, related, seed=seed)
    welch = welch_test(gain[related], gain[~related])
    spread = pooled_spread(gain[related], gain[~related])
    return Contrast(
        estimate=mean_related - mean_control,
        mean_related=mean_related,
        mean_control=mean_control,
        n_related=n_related,
        n_control=n_control,
        permutation=permutation,
        welch=welch,
        margin=margin,
        tost_p=None if margin is None else tost(gain[related], gain[~related], margin),
        spread=spread,
        minimum_detectable_effect=minimum_detectable_effect(spread, n_related, n_control),
        verdict=_verdict(permutation, margin),
    )


def pooled_spread(related_R: FloatArray, control_C: FloatArray) -> float:
    """Standard deviation within two groups, [R] and [C], assumed to be equal."""
    squares = sum(
        float(((values - values.mean()) ** 2).sum()) if np.ptp(values) else 0.0
        for values in (related_R, control_C)
    )
    return math.sqrt(squares / (len(related_R) + len(control_C) - 2))


def _verdict(permutation: PermutationTest, margin: float | None) -> Verdict:
    if margin is not None and permutation.interval_90.inside(margin):
        return Verdict.EQUIVALENT
    if permutation.interval_95.excludes(0.0):
        higher = permutation.interval_95.low > 0
        return Verdict.RELATED_GAIN_MORE if higher else Verdict.RELATED_GAIN_LESS
    return Verdict.INCONCLUSIVE
