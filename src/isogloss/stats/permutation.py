"""Permutation tests of group labels and of orders of units, and intervals that invert them.

Shapes are suffixes: L languages, R related, U units (languages, or models), Z permutations.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, combinations, permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from isogloss.types import BoolArray, FloatArray, Interval

MAX_RELABELLINGS = 200_000  # of group labels; beyond it, as many random ones
MAX_PERMUTATIONS = 9_999  # random orders of units
MAX_EXACT_UNITS = 7  # 5,040 orders
PART = 20_000  # random relabellings drawn at once
DOUBLINGS = 12
BISECTIONS = 20
ALPHA = 0.05


class PermutationTest(NamedTuple):
    """A difference of means tested by permuting group labels; `exact` if all were counted."""

    p: float
    relabellings: int
    exact: bool
    interval_95: Interval
    interval_90: Interval


def permutation_test(
    gain_L: FloatArray,
    related_L: BoolArray,
    *,
    seed: int = 0,
    relabellings: int = MAX_RELABELLINGS,
) -> PermutationTest:
    """Test that group labels carry no information about gains, and invert the test for intervals.

    `gain_L` and `related_L` are [L]; the statistic is the mean of related gains minus the mean of
    the others. All relabellings with the same group sizes are counted if there are at most
    `relabellings`; otherwise that many random ones plus the observed labels (Phipson and Smyth
    2010). p is twice the
    smaller tail, at most 1, as in `scipy.stats.permutation_test`.

    The intervals contain every shift d for which the test of `gain - d * related` has p > alpha. A
    relabelling that exchanges m related for m control languages has a shifted statistic at or above
    the observed one if and only if

        d >= (mean gain of the related given up - mean gain of the controls taken in).

    So each relabelling has one crossing point, and the ends of the interval are order statistics of
    the crossings, found without a search (Garthwaite 1996 describes the family). An end is infinite
    where there are too few relabellings to reach the level.
    """
    n_languages, n_related = len(gain_L), int(related_L.sum())
    chosen_ZR, exact = _relabellings(n_languages, n_related, seed, relabellings)
    centred_L = gain_L - gain_L.mean()
    n_exchanged_Z = n_related - related_L[chosen_ZR].sum(axis=1)
    exchanged_Z = centred_L[related_L].sum() - centred_L[chosen_ZR].sum(axis=1)
    crossing_Z = exchanged_Z[n_exchanged_Z > 0] / n_exchanged_Z[n_exchanged_Z > 0]
    # Gains are multiples of 1/n, so exact ties are common and must survive rounding.
    crossing_Z[np.abs(crossing_Z) < 1e-12 * max(np.abs(gain_L).max(), np.finfo(float).tiny)] = 0.0
    crossing_Z.sort()
    n_relabellings = len(chosen_ZR) + (not exact)
    n_observed = n_relabellings - len(crossing_Z)  # relabellings that exchange nothing
    tail = n_observed + min(int((crossing_Z <= 0).sum()), int((crossing_Z >= 0).sum()))

    def interval(alpha: float) -> Interval:
        # A shift is inside if more than alpha/2 of the relabellings lie in either tail; the small
        # term keeps an exact product such as 40 * 0.025 from falling below its integer.
        rank = math.floor(n_relabellings * alpha / 2 + 1e-9) + 1 - n_observed
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
    """The exact level of the two-sided permutation test at `alpha`: a multiple of 2 / relabellings.

    For 4 related and 4 control languages it is 2/70 at an alpha of 0.05; it is 0 where no result
    can reach `alpha`.
    """
    # In floating point: the exact binomial for thousands of languages takes seconds.
    count = float(special.comb(n_related + n_control, n_related))
    relabellings = round(min(count, MAX_RELABELLINGS))
    return 2 * math.floor(relabellings * alpha / 2 + 1e-9) / relabellings


@lru_cache(maxsize=2)
def _relabellings(
    n_languages: int, n_related: int, seed: int, most: int
) -> tuple[npt.NDArray[np.int16], bool]:
    """Which languages are labelled related, [Z, R], and whether these are all possible choices."""
    count = math.comb(n_languages, n_related)
    if count <= most:
        flat = chain.from_iterable(combinations(range(n_languages), n_related))
        return np.fromiter(flat, np.int16, count * n_related).reshape(count, n_related), True
    rng = np.random.default_rng(seed)
    # In parts: the sort keys of 200,000 draws over 122 languages take 200 MB.
    parts = [
        np.argpartition(rng.random((size, n_languages)), n_related, axis=1)
        for size in (*[PART] * (most // PART), *([most % PART] if most % PART else []))
    ]
    return np.concatenate([part[:, :n_related].astype(np.int16) for part in parts]), False


@lru_cache(maxsize=4)
def unit_orders(
    n_units: int, draws: int, seed: int, *, max_exact_units: int = MAX_EXACT_UNITS
) -> tuple[npt.NDArray[np.intp], bool]:
    """Orders of units, [Z, U], the observed order first; and whether these are all orders.

    All orders of up to `max_exact_units`, otherwise `draws` random ones and the observed one, so
    that no p is zero (Phipson and Smyth 2010).
    """
    if n_units <= max_exact_units:
        return np.array(list(permutations(range(n_units)))), True
    observed_U = np.arange(n_units)
    rng = np.random.default_rng(seed)
    return np.vstack([observed_U, rng.permuted(np.tile(observed_U, (draws, 1)), axis=1)]), False


def permutation_p(statistic_Z: FloatArray) -> float:
    """Share of permutations whose statistic is at least that of the first, the observed one."""
    return float((statistic_Z >= statistic_Z[0] * (1 - 1e-9)).mean())


def invert_test(p_at: Callable[[float], float], estimate: float, error: float) -> Interval:
    """The interval of values around `estimate` with p > 0.05, found by doubling and bisection.

    `p_at` gives the p of a value; `error`, roughly a standard error, scales the search. An end is
    infinite if p is above 0.05 even 4,000 errors away.
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
