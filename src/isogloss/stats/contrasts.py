"""Related languages against controls: tests, intervals, equivalence, verdict.

Shapes are suffixes: L languages, R related, C controls, Z relabellings. All intervals are
two-sided. The language is the unit of replication of the relatedness contrast: items of one
language share whatever that language does to the model, so a test over items would count the same
surprise many times.
"""

import math
from functools import lru_cache
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from isogloss.errors import ComparisonError, ConfigError
from isogloss.types import FloatArray, Interval, Verdict

MAX_RELABELLINGS = 200_000


class PermutationTest(NamedTuple):
    """A difference of means tested by relabelling; `exact` if every relabelling was counted."""

    p: float
    relabellings: int
    exact: bool
    interval_95: Interval
    interval_90: Interval


class WelchTest(NamedTuple):
    """A difference of means tested by Welch's unequal-variance t; `interval` is the 95% one."""

    t: float
    df: float
    se: float
    p: float
    interval: Interval


class MeanTest(NamedTuple):
    """The mean of one sample of languages (or models) against zero, by Student's t."""

    estimate: float
    se: float
    p: float
    interval_95: Interval
    interval_90: Interval
    n: int


class Contrast(NamedTuple):
    """Mean gain of related languages minus mean gain of controls, in the unit of the gains.

    `tost_p` is the larger of the two one-sided p values against the margin, None without a margin;
    `spread` the standard deviation of gains within the groups (n - 2 degrees of freedom).
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
    """Mean gain of related languages minus that of controls, tested with languages as replicates.

    `gain_L` [L] holds one gain for each language in any unit, `related_L` [L] is True for the
    related; `margin`, in the same unit, is the difference stated in advance to matter, or None on a
    scale that has none. `seed` matters only past 200,000 relabellings.

    The verdict, in this order:

    1. `equivalent`: the 90% permutation interval lies within plus or minus `margin` (two one-sided
       tests at 5%, Schuirmann 1987). This comes first: a difference below what was said to matter
       stays so when it is measured well enough to differ from zero.
    2. `related gain more` or `related gain less`: the 95% permutation interval excludes zero.
    3. `inconclusive`: neither. Not evidence that the groups gain alike.

    The minimum detectable effect is that of `detectable_effect` under the spread observed.

    ComparisonError with fewer than two languages in a group or a gain that is not finite,
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
        minimum_detectable_effect=detectable_effect(spread, n_related, n_control),
        verdict=_verdict(permutation, margin),
    )


def pooled_spread(related_R: FloatArray, control_C: FloatArray) -> float:
    """Standard deviation within two groups, [R] and [C], taken to be the same in both."""
    squares = sum(
        float(((values - values.mean()) ** 2).sum()) if np.ptp(values) else 0.0
        for values in (related_R, control_C)
    )
    return math.sqrt(squares / (len(related_R) + len(control_C) - 2))


def detectable_effect(
    spread: float, n_related: int, n_control: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The true difference of means found with that power by a two-sided permutation test.

    Gains are taken as normal with standard deviation `spread` in both groups, where the permutation
    test has the power of Student's t (Hoeffding 1952) at the level that it attains; the power is
    that of the noncentral t. Of a
    spread that was estimated from few languages it is itself a rough estimate. Infinite if there
    are too few relabellings for any difference to reach `alpha`, NaN if `spread` is zero.
    """
    if spread == 0:
        return math.nan
    level = attained(n_related, n_control, alpha)
    if level == 0:
        return math.inf
    df = n_related + n_control - 2
    critical = float(stats.t.ppf(1 - level / 2, df))

    def missing(effect: float) -> float:
        # The far tail is nothing where the power is near to what is asked for, and scipy's is NaN.
        return float(stats.nct.sf(critical, df, effect)) - power

    noncentrality = float(optimize.brentq(missing, 0.0, critical + 5))
    return noncentrality * spread * math.sqrt(1 / n_related + 1 / n_control)


def attained(n_related: int, n_control: int, alpha: float) -> float:
    """The level that a two-sided permutation test at `alpha` has: a multiple of 2 / relabellings.

    Of 4 against 4 languages it is 2/70 for an alpha of 0.05, and 0 where nothing can be found.
    """
    # Floating-point: the exact number for thousands of languages takes seconds.
    count = float(special.comb(n_related + n_control, n_related))
    relabellings = round(min(count, MAX_RELABELLINGS))
    return 2 * math.floor(relabellings * alpha / 2 + 1e-9) / relabellings


def permutation_test(
    gain_L: FloatArray, related_L: npt.NDArray[np.bool_], *, seed: int = 0
) -> PermutationTest:
    """Test that labels carry no information on the gains, [L] and [L], and invert it for intervals.

    All relabellings that keep the group sizes when there are at most 200,000, else as many seeded
    draws with the observed labels added to them (Phipson and Smyth 2010). p is twice the smaller
    tail, at most 1, as in `scipy.stats.permutation_test`.

    The intervals hold every shift d for which the test, with d taken from each related gain, has
    p > alpha (a shift model). A relabelling that trades m related for m control languages has, once
    shifted, a statistic at least the observed one exactly if d >= (mean of the related traded away
    - mean of the controls traded in). So each relabelling has one crossing point and the ends of
    the interval are order statistics of the crossings (Garthwaite 1996 describes the family; here
    without search). With too few relabellings to reach the level, an end is infinite.
    """
    n_languages, n_related = len(gain_L), int(related_L.sum())
    chosen_ZR, exact = _relabellings(n_languages, n_related, seed)
    centred_L = gain_L - gain_L.mean()
    n_traded_Z = n_related - related_L[chosen_ZR].sum(axis=1)
    traded_Z = centred_L[related_L].sum() - centred_L[chosen_ZR].sum(axis=1)
    crossing_Z = traded_Z[n_traded_Z > 0] / n_traded_Z[n_traded_Z > 0]
    # Gains are multiples of 1/n, so exact ties are common and must survive rounding.
    crossing_Z[np.abs(crossing_Z) < 1e-12 * max(np.abs(gain_L).max(), np.finfo(float).tiny)] = 0.0
    crossing_Z.sort()
    n_relabellings = len(chosen_ZR) + (not exact)
    n_same = n_relabellings - len(crossing_Z)
    tail = n_same + min(int((crossing_Z <= 0).sum()), int((crossing_Z >= 0).sum()))

    def interval(alpha: float) -> Interval:
        # A shift is kept if more than alpha/2 of the relabellings lie in either tail; the small
        # term keeps an exact product such as 40 * 0.025 from falling below its integer.
        rank = math.floor(n_relabellings * alpha / 2 + 1e-9) + 1 - n_same
        if rank < 1:
            return Interval(-math.inf, math.inf)
        return Interval(float(crossing_Z[rank - 1]), float(crossing_Z[-rank]))

    return PermutationTest(
        p=min(1.0, 2 * tail / n_relabellings),
        relabellings=n_relabellings,
        exact=exact,
        interval_95=interval(0.05),
        interval_90=interval(0.10),
    )


def welch_test(related_R: FloatArray, control_C: FloatArray) -> WelchTest:
    """Welch's t test of a difference of means, [R] against [C].

    Equals scipy's `ttest_ind(equal_var=False)`. If neither group varies, the error is 0, df is R +
    C - 2, and p is 1 where the means are equal and 0 where they are not.
    """
    estimate = float(related_R.mean() - control_C.mean())
    parts = [_variance_of_mean(related_R), _variance_of_mean(control_C)]
    se = math.sqrt(sum(parts))
    if se == 0:
        same = bool(related_R[0] == control_C[0])
        t = 0.0 if same else math.copysign(math.inf, estimate)
        df = float(len(related_R) + len(control_C) - 2)
        return WelchTest(t, df, 0.0, float(same), Interval(estimate, estimate))
    shares = [part / sum(parts) for part in parts]
    df = 1 / (shares[0] ** 2 / (len(related_R) - 1) + shares[1] ** 2 / (len(control_C) - 1))
    t = estimate / se
    half = se * float(stats.t.ppf(0.975, df))
    interval = Interval(estimate - half, estimate + half)
    return WelchTest(t, df, se, float(2 * stats.t.sf(abs(t), df)), interval)


def mean_test(value_L: npt.ArrayLike) -> MeanTest:
    """Student's one-sample t test of the mean of `value_L`, [L], against zero.

    Equals scipy's `ttest_1samp`; the 90% interval is that of two one-sided tests at 5%. Values that
    do not vary have an error of 0 and p 1 (all zero) or 0. ComparisonError with fewer than two.
    """
    value = np.asarray(value_L, dtype=np.float64)
    if len(value) < 2:
        raise ComparisonError(f"a mean needs at least 2 values for a test, but got {len(value)}.")
    estimate = float(value.mean())
    se = math.sqrt(_variance_of_mean(value))
    p = float(2 * stats.t.sf(abs(estimate) / se, len(value) - 1)) if se else float(estimate == 0)
    wide, narrow = (
        Interval(estimate - half, estimate + half)
        for half in (se * float(stats.t.ppf(level, len(value) - 1)) for level in (0.975, 0.95))
    )
    return MeanTest(estimate, se, p, wide, narrow, len(value))


def tost(related_R: FloatArray, control_C: FloatArray, margin: float) -> float:
    """Larger p of the two one-sided Welch tests against -margin and +margin (Schuirmann 1987).

    Equals statsmodels' `ttost_ind(usevar="unequal")`. Small p: the difference is within the margin.
    """
    estimate = float(related_R.mean() - control_C.mean())
    welch = welch_test(related_R, control_C)
    if welch.se == 0:
        return float(abs(estimate) >= margin)
    return float(stats.t.sf((margin - abs(estimate)) / welch.se, welch.df))


def _variance_of_mean(values_N: FloatArray) -> float:
    # Equal values can differ from their rounded mean, which would leave a variance of 1e-34.
    return float(values_N.var(ddof=1)) / len(values_N) if np.ptp(values_N) else 0.0


def _verdict(permutation: PermutationTest, margin: float | None) -> Verdict:
    if margin is not None and permutation.interval_90.inside(margin):
        return Verdict.EQUIVALENT
    if permutation.interval_95.excludes(0.0):
        higher = permutation.interval_95.low > 0
        return Verdict.RELATED_GAIN_MORE if higher else Verdict.RELATED_GAIN_LESS
    return Verdict.INCONCLUSIVE


@lru_cache(maxsize=2)
def _relabellings(
    n_languages: int, n_related: int, seed: int
) -> tuple[npt.NDArray[np.int16], bool]:
    """Which languages are called related, [Z, R], and whether these are all the ways to do so."""
    count = math.comb(n_languages, n_related)
    if count <= MAX_RELABELLINGS:
        flat = chain.from_iterable(combinations(range(n_languages), n_related))
        return np.fromiter(flat, np.int16, count * n_related).reshape(count, n_related), True
    rng = np.random.default_rng(seed)
    # In parts: the sort keys of 200,000 draws over 122 languages would take 200 MB at once.
    parts = [
        np.argpartition(rng.random((MAX_RELABELLINGS // 10, n_languages)), n_related, axis=1)
        for _ in range(10)
    ]
    return np.concatenate([part[:, :n_related].astype(np.int16) for part in parts]), False
