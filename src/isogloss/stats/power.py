"""Power of a design: what a number of languages, items and seeds can show, before it is run.

Everything follows from one standard deviation, that of measured gains among languages of a group:

    spread^2 = languages^2 + seeds^2 / n_seeds + items^2 / n_items

All gains and standard deviations are fractions. Shapes are suffixes: Q quantiles.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from isogloss.compat.scipy import noncentral_t_sf
from isogloss.errors import ConfigError
from isogloss.stats.distributions import chi2_quantile, normal_quantile, t_quantile
from isogloss.stats.permutation import attained_level
from isogloss.types import FloatArray, Interval

QUANTILES = 2_000  # power differs from statsmodels' by less than 1e-5
TARGET_POWER = 0.8


@dataclass(frozen=True)
class Spread:
    """Components of the spread of measured gains: three standard deviations.

    `languages`: of true gains within a group. `seeds`: of one language's gain between seeds,
    independent over languages (an effect that a seed has on all languages cancels in the contrast).
    `items`: of one item's change, see `item_spread`.
    """

    languages: float
    seeds: float
    items: float

    def measured(self, n_items: int, n_seeds: int) -> float:
        """Standard deviation of measured gains among languages of a group.

        An upper bound for two reasons: where all languages have the same items, the effects that
        an item has in all of them cancel in the contrast; and `items` is assumed not to fall with
        the number of seeds.
        """
        return math.sqrt(self.languages**2 + self.seeds**2 / n_seeds + self.items**2 / n_items)


@dataclass(frozen=True)
class DesignPower:
    """What a design with `control` control languages can show; see `design_power`.

    `significant` is the smallest measured contrast with p <= 0.05, `minimum_detectable_effect` the
    smallest true contrast detected with 80% power. `power` is the probability of detecting a true
    contrast of `effect`, `equivalence` that of showing a true contrast of zero to be equivalent.
    """

    control: int
    spread: float
    significant: float
    minimum_detectable_effect: float
    effect: float
    power: float
    equivalence: float


def item_spread(
    gain: float, discordant: float, items_per_passage: float, passage_correlation: float
) -> float:
    """Standard deviation of one item's change in correctness, adjusted for clustering by passage.

    The change is -1, 0 or 1; `discordant` is the share of items that change, `gain` the mean
    change, so the variance is `discordant - gain^2`. With m items per passage whose changes
    correlate by r, it is multiplied by Kish's design effect 1 + (m - 1) r, so that the variance of
    a mean over n items is its square / n. ConfigError if fewer items change than the gain needs.
    """
    if abs(gain) > discordant:
        raise ConfigError(
            f"a mean gain of {gain} needs at least that share of items to change, but "
            f"`discordant` is {discordant}."
        )
    design_effect = 1 + (items_per_passage - 1) * passage_correlation
    return math.sqrt((discordant - gain**2) * design_effect)


def pilot_spread(
    measured: float, item_error: float, n_items: int, n_seeds: int, seed_spread: float
) -> Spread:
    """The spread measured in a pilot, split into components for other numbers of items and seeds.

    `item_error` is the standard error of a language's gain over the pilot's `n_items`. The variance
    that items and seeds do not explain is that of languages. Where items and seeds explain more
    than was measured, both are scaled down: an effect that an item has in all languages is in the
    standard error of each and not in the spread between them. For the pilot's own numbers of items
    and seeds, the components always add up to `measured`.
    """
    sampling_variance = item_error**2 + seed_spread**2 / n_seeds
    scale = min(1.0, measured**2 / sampling_variance) if sampling_variance else 1.0
    return Spread(
        languages=math.sqrt(max(0.0, measured**2 - sampling_variance)),
        seeds=seed_spread * math.sqrt(scale),
        items=item_error * math.sqrt(n_items * scale),
    )


def spread_interval(measured: float, df: int) -> Interval:
    """95% interval of a standard deviation estimated with `df` degrees of freedom (chi-square)."""
    low, high = (measured * math.sqrt(df / float(chi2_quantile(q, df))) for q in (0.975, 0.025))
    return Interval(low, high)


def design_power(
    spread: float, n_related: int, n_control: int, *, effect: float, margin: float
) -> DesignPower:
    """Power of a design whose measured gains have the standard deviation `spread` within groups.

    ConfigError if `spread` is not positive or a group has fewer than two languages.
    """
    if min(n_related, n_control) < 2:
        raise ConfigError(
            f"a contrast needs at least 2 related and 2 control languages, but got {n_related} "
            f"related and {n_control} control."
        )
    if not spread > 0:
        raise ConfigError(f"the spread of measured gains must be positive but got {spread}.")
    level = attained_level(n_related, n_control, 0.05)
    df = n_related + n_control - 2
    return DesignPower(
        control=n_control,
        spread=spread,
        significant=critical_effect(_standard_error(spread, n_related, n_control), df, level),
        minimum_detectable_effect=minimum_detectable_effect(
            spread, n_related, n_control, power=TARGET_POWER
        ),
        effect=effect,
        power=power(effect, spread, n_related, n_control),
        equivalence=equivalence(spread, n_related, n_control, margin),
    )


def minimum_detectable_effect(
    spread: float, n_related: int, n_control: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The true difference of means that a two-sided permutation test detects with that power.

    Gains are assumed normal with standard deviation `spread` in both groups; the permutation test
    then has the power of Student's t (Hoeffding 1952), from the noncentral t, at the level that it
    attains. With a spread estimated from few languages this is a rough estimate too. Infinite if
    there are too few relabellings to reach `alpha`, NaN if `spread` is zero.
    """
    if spread == 0:
        return math.nan
    error = _standard_error(spread, n_related, n_control)
    level = attained_level(n_related, n_control, alpha)
    return detectable_by_t(error, n_related + n_control - 2, level, power=power)


def power(
    effect: float, spread: float, n_related: int, n_control: int, alpha: float = 0.05
) -> float:
    """Probability that the two-sided permutation test detects a true contrast of `effect`.

    The power of Student's t (Hoeffding 1952) at the level attained, for normal gains; equals
    statsmodels' `TTestIndPower` at that level. In simulations it is accurate to three points from 4
    related and 5 control languages on, and up to seven points too high with two related languages
    or fewer than a hundred relabellings. It is the probability of p <= 0.05; the verdict on a
    contrast within the margin can still be `equivalent`.
    """
    error = _standard_error(spread, n_related, n_control)
    level = attained_level(n_related, n_control, alpha)
    return power_of_t(effect, error, n_related + n_control - 2, level)


def equivalence(spread: float, n_related: int, n_control: int, margin: float) -> float:
    """Probability that the 90% interval lies within plus or minus `margin` at a true zero.

    The interval is Student's at the level that the permutation interval attains. With few
    relabellings the probability is too high by as much as `power`.
    """
    error = _standard_error(spread, n_related, n_control)
    level = attained_level(n_related, n_control, 0.10)
    return equivalence_by_t(margin, error, n_related + n_control - 2, level)


def limiting_effect(spread: float, n_related: int, alpha: float = 0.05) -> float:
    """Limit of the minimum detectable effect as the number of controls grows."""
    return (normal_quantile(1 - alpha / 2) + normal_quantile(TARGET_POWER)) * _standard_error(
        spread, n_related, math.inf
    )


def spread_for_equivalence(n_related: int, n_control: int, margin: float) -> float:
    """The largest spread at which a true zero is shown equivalent with 80% power, or 0."""
    if attained_level(n_related, n_control, 0.10) == 0:
        return 0.0
    return float(
        optimize.brentq(
            lambda spread: equivalence(spread, n_related, n_control, margin) - TARGET_POWER,
            1e-3 * margin,
            1e3 * margin,
        )
    )


def languages_for_equivalence(spread: float, margin: float) -> int:
    """How many related and as many control languages show a true zero equivalent with 80% power.

    With an unlimited number of controls, about half as many related languages suffice.
    """
    high = 2
    while equivalence(spread, high, high, margin) < TARGET_POWER:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if equivalence(spread, middle, middle, margin) < TARGET_POWER:
            low = middle
        else:
            high = middle
    return high


def critical_effect(error: float, df: int, level: float) -> float:
    """The smallest estimate with p <= `level` in a two-sided t test; infinite at a level of 0.

    `error` is the standard error of the estimate, with `df` degrees of freedom.
    """
    return t_quantile(1 - level / 2, df) * error if level else math.inf


def detectable_by_t(error: float, df: int, level: float, *, power: float = TARGET_POWER) -> float:
    """The true effect that a two-sided t test at `level` detects with that power."""
    return error * detectable_noncentrality(df, level, power=power) if level else math.inf


@lru_cache(maxsize=256)
def detectable_noncentrality(df: float, level: float, *, power: float = TARGET_POWER) -> float:
    """The true effect, in standard errors, that a two-sided t test at `level` detects."""
    critical = t_quantile(1 - level / 2, df)

    def shortfall(noncentrality: float) -> float:
        # Without the far tail: it is negligible near the target power, and NaN in scipy.
        return noncentral_t_sf(critical, df, noncentrality) - power

    return float(optimize.brentq(shortfall, 0.0, critical + 5))


def power_of_t(effect: float, error: float, df: int, level: float) -> float:
    """Probability that a two-sided t test at `level` detects a true effect."""
    if level == 0:
        return 0.0
    # Averaged over estimated spreads: the far tail of the noncentral t can be NaN in scipy.
    bound_Q = t_quantile(1 - level / 2, df) * _estimated_over_true(df)
    centre = effect / error
    return float((special.ndtr(centre - bound_Q) + special.ndtr(-centre - bound_Q)).mean())


def equivalence_by_t(margin: float, error: float, df: int, level: float) -> float:
    """Probability that Student's interval of level 1 - `level` lies within the margin at zero."""
    if level == 0:
        return 0.0
    half_Q = t_quantile(1 - level / 2, df) * _estimated_over_true(df)
    room_Q = np.maximum(margin / error - half_Q, 0.0)
    return float((2 * special.ndtr(room_Q) - 1).mean())


def _standard_error(spread: float, n_related: float, n_control: float) -> float:
    """Standard error of the contrast."""
    return spread * math.sqrt(1 / n_related + 1 / n_control)


@lru_cache(maxsize=64)  # of each point of a power curve
def _estimated_over_true(df: int) -> FloatArray:
    """Quantiles of estimated over true standard deviation, at even probabilities, [Q]."""
    share_Q = (np.arange(QUANTILES) + 0.5) / QUANTILES
    ratio_Q: FloatArray = np.sqrt(chi2_quantile(share_Q, df) / df)
    ratio_Q.flags.writeable = False
    return ratio_Q
