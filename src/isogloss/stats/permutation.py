"""Orders of units for Monte Carlo tests, and intervals that invert a test.

Shapes are suffixes: U units (languages, or models), Z relabellings.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, combinations, permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from isogloss.types import FloatArray, Interval

MAX_RELABELLINGS = 200_000
MAX_PERMUTATIONS = 9_999
MAX_EXACT_UNITS = 7
DOUBLINGS = 12
BISECTIONS = 20
ALPHA = 0.05


class PermutationTest(NamedTuple):
    """A difference of means tested by relabelling; `exact` if every relabelling was counted."""

    p: float
    relabellings: int
    exact: bool
    interval_95: Interval
    interval_90: Interval


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


def attained_level(n_related: int, n_control: int, alpha: float) -> float:
    """The level that a two-sided permutation test at `alpha` has: a multiple of 2 / relabellings.

    Of 4 against 4 languages it is 2/70 for an alpha of 0.05, and 0 where nothing can be found.
    """
    # Floating-point: the exact number for thousands of languages takes seconds.
    count = float(special.comb(n_related + n_control, n_related))
    relabellings = round(min(count, MAX_RELABELLINGS))
    return 2 * math.floor(relabellings * alpha / 2 + 1e-9) / relabellings


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


@lru_cache(maxsize=4)
def unit_orders(n_units: int, draws: int, seed: int) -> tuple[npt.NDArray[np.intp], bool]:
    """Orders of units, [Z, U], the observed one first, and whether these are all.

    All of up to 7 units, else `draws` seeded ones; with the observed one among them, a p value is
    never zero (Phipson and Smyth 2010).
    """
    if n_units <= MAX_EXACT_UNITS:
        return np.array(list(permutations(range(n_units)))), True
    here_U = np.arange(n_units)
    rng = np.random.default_rng(seed)
    return np.vstack([here_U, rng.permuted(np.tile(here_U, (draws, 1)), axis=1)]), False


def permutation_p(statistic_Z: FloatArray) -> float:
    """Share of relabellings whose statistic is as large as that of the first, the observed one."""
    return float((statistic_Z >= statistic_Z[0] * (1 - 1e-9)).mean())


def invert_test(p_at: Callable[[float], float], estimate: float, error: float) -> Interval:
    """The values around `estimate` with p > 0.05: where `p_at` falls below on either side.

    `error` is the scale to search on, roughly a standard error. An end is infinite if p is still
    above at 4,000 errors.
    """
    low, high = (_end(p_at, estimate, side * error) for side in (-1, 1))
    return Interval(low, high)


def _end(p_at: Callable[[float], float], estimate: float, step: float) -> float:
    if step == 0:
        return estimate
    inside = estimate
    for doubling in range(DOUBLINGS):
        outside = estimate + 2**doubling * step
        if p_at(outside) <= ALPHA:
            break
        inside = outside
    else:
        return math.copysign(math.inf, step)
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        if p_at(middle) > ALPHA:
            inside = middle
        else:
            outside = middle
        if abs(outside - inside) <= 1e-3 * abs(step):
            break
    return inside
