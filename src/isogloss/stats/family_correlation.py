"""Correlation of gains within families, which a contrast of single languages takes to be zero.

Shapes are suffixes: T languages in the contrast (related and control).
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from isogloss.stats.permutation import permutation_p
from isogloss.types import BoolArray, FloatArray

MOST = 0.999  # the largest correlation that is tried


def variance_ratio(related_T: BoolArray, family_T: Sequence[str], correlation: float) -> float:
    """Variance of the contrast over the variance that independent languages would give it.

    Gains of one family correlate by `correlation`, those of two families do not. The variance taken
    for independent languages rests on the spread within groups, which such a correlation makes too
    small where a group is of few families. So the ratio is Kish's design effect, over the
    share of the true variance that the spread within groups is expected to show.
    """
    sizes = {
        group: list(Counter(np.asarray(family_T)[related_T == group].tolist()).values())
        for group in (True, False)
    }
    true = naive = within = 0.0
    for counts in sizes.values():
        n = sum(counts)
        pairs = n + correlation * sum(m * (m - 1) for m in counts)
        true += pairs / n**2
        naive += 1 / n
        within += n - pairs / n
    spread = within / (len(family_T) - 2)
    return true / (naive * spread) if spread > 0 else math.inf


def breaking_correlation(
    related_T: BoolArray, family_T: Sequence[str], needed_ratio: float
) -> float | None:
    """The smallest correlation within families at which the variance is `needed_ratio` times as
    large as for independent languages; None if none is.
    """

    def shortfall(correlation: float) -> float:
        return variance_ratio(related_T, family_T, correlation) - needed_ratio

    if shortfall(0.0) >= 0:
        return 0.0
    if shortfall(MOST) < 0:
        return None
    from scipy import optimize  # takes long to import

    return float(optimize.brentq(shortfall, 0.0, MOST))


def intraclass_correlation(value_T: FloatArray, family_T: Sequence[str]) -> float:
    """The correlation within families, from one-way analysis of variance; it can be negative.

    ICC(1) of Shrout and Fleiss (1979) with families of unequal size (Donner 1986). NaN with fewer
    than two families, without a family of two, or where values do not vary.
    """
    families = np.asarray(family_T)
    groups = [value_T[families == family] for family in dict.fromkeys(family_T)]
    sizes = np.array([len(group) for group in groups])
    n, k = int(sizes.sum()), len(groups)
    if k < 2 or n == k or np.ptp(value_T) == 0:
        return math.nan
    means = np.array([group.mean() for group in groups])
    between = float((sizes * (means - value_T.mean()) ** 2).sum()) / (k - 1)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (n - k)
    size = (n - float((sizes**2).sum()) / n) / (k - 1)
    return (between - within) / (between + (size - 1) * within)


def family_difference_p(
    value_T: FloatArray, family_T: Sequence[str], *, seed: int = 0, draws: int = 9_999
) -> float:
    """p that families do not differ: a permutation test of the variance between them.

    The sum of squares between families is compared with that after `draws` random assignments of
    languages to families of the same sizes. NaN with fewer than two families or without a family
    of two languages.
    """
    names, index_T = np.unique(np.asarray(family_T), return_inverse=True)
    if len(names) < 2 or len(names) == len(value_T):
        return math.nan
    member_FT = np.equal.outer(np.arange(len(names)), index_T).astype(np.float64)
    centred_T = value_T - value_T.mean()
    rng = np.random.default_rng(seed)
    order_ZT = rng.permuted(np.tile(centred_T, (draws, 1)), axis=1)
    sums_ZF = np.vstack([centred_T, order_ZT]) @ member_FT.T
    between_Z: FloatArray = (sums_ZF**2 / member_FT.sum(axis=1)).sum(axis=1)
    return permutation_p(between_Z)
