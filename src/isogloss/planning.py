"""Planning: what a number of languages, items and seeds can show, before it is paid for.

Everything follows from one standard deviation, that of a language's measured gain among languages
of its group:

    spread^2 = language_spread^2 + seed_spread^2 / seeds + item_variance / items

with the item variance of a paired difference of correctness, enlarged where several items share a
passage.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from isogloss.contrasts import detectable_effect
from isogloss.errors import ConfigError

DRAWS = 100_000


@dataclass(frozen=True)
class Plan:
    """A design and what is assumed of the gains, all as fractions.

    `discordant` is the share of items whose correctness changes between the two conditions,
    `passage_correlation` that of two items of a passage in their change.
    """

    related: int
    control: int
    items: int
    items_per_passage: float = 1.0
    seeds: int = 1
    language_spread: float = 0.04
    seed_spread: float = 0.02
    gain: float = 0.2
    discordant: float = 0.4
    passage_correlation: float = 0.1
    margin: float = 0.03


@dataclass(frozen=True)
class Outlook:
    """What a design can show: a standard deviation and probabilities.

    `spread` is that of measured gains, `floor` what is left of it with endless items and seeds;
    `power` the chance to tell a true contrast of `effect` from zero; `equivalence` the chance to
    find a true contrast of zero equivalent.
    """

    spread: float
    floor: float
    minimum_detectable_effect: float
    effect: float
    power: float
    equivalence: float


def outlook(plan: Plan, effect: float, *, seed: int = 0) -> Outlook:
    """What to expect of a design if relatives truly gain `effect` more than controls.

    Power is that of the two-sided 5% permutation test, by the noncentral t; the chance of
    equivalence that of a 90% interval within the margin, from 100,000 seeded draws.
    """
    if min(plan.related, plan.control) < 2:
        raise ConfigError("a contrast needs at least two related and two control languages.")
    spread = measured_spread(plan)
    scale = spread * math.sqrt(1 / plan.related + 1 / plan.control)
    df = plan.related + plan.control - 2
    return Outlook(
        spread=spread,
        floor=plan.language_spread,
        minimum_detectable_effect=detectable_effect(spread, plan.related, plan.control),
        effect=effect,
        power=power(plan, effect),
        equivalence=_equivalence(scale, df, plan.margin, seed),
    )


def measured_spread(plan: Plan) -> float:
    """Standard deviation of the measured gains of languages that truly differ as assumed."""
    item_variance = plan.discordant - plan.gain**2
    if item_variance < 0:
        raise ConfigError(
            f"a mean gain of {plan.gain} needs at least that share of items to change, but "
            f"`discordant` is {plan.discordant}."
        )
    together = 1 + (plan.items_per_passage - 1) * plan.passage_correlation
    return math.sqrt(
        plan.language_spread**2
        + plan.seed_spread**2 / plan.seeds
        + item_variance * together / plan.items
    )


def power(plan: Plan, effect: float, alpha: float = 0.05) -> float:
    """Chance that the permutation test finds a true contrast of `effect`, two-sided."""
    if 2 / math.comb(plan.related + plan.control, plan.related) > alpha:
        return 0.0
    spread = measured_spread(plan)
    df = plan.related + plan.control - 2
    if spread == 0:
        return float(effect != 0)
    centre = effect / (spread * math.sqrt(1 / plan.related + 1 / plan.control))
    critical = float(stats.t.ppf(1 - alpha / 2, df))
    # Beyond a noncentrality of 30 the power is one, and scipy's tails lose their digits.
    if abs(centre) > 30:
        return 1.0
    return float(stats.nct.sf(critical, df, centre) + stats.nct.cdf(-critical, df, centre))


def _equivalence(scale: float, df: int, margin: float, seed: int) -> float:
    """Chance that the 90% interval of a true zero lies within the margin."""
    rng = np.random.default_rng(seed)
    estimate = scale * rng.standard_normal(DRAWS)
    half = stats.t.ppf(0.95, df) * scale * np.sqrt(rng.chisquare(df, DRAWS) / df)
    return float((np.abs(estimate) + half < margin).mean())
