"""Orders of units for Monte Carlo tests, and intervals that invert a test.

Shapes are suffixes: U units (languages, or models), Z relabellings.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from isogloss.types import FloatArray, Interval

MAX_PERMUTATIONS = 9_999
MAX_EXACT_UNITS = 7
DOUBLINGS = 12
BISECTIONS = 20
ALPHA = 0.05


@lru_cache(maxsize=4)
def orders(n_units: int, draws: int, seed: int) -> tuple[npt.NDArray[np.intp], bool]:
    """Orders of units, [Z, U], the observed one first, and whether these are all.

    All of up to 7 units, else `draws` seeded ones; with the observed one among them, a p value is
    never zero (Phipson and Smyth 2010).
    """
    if n_units <= MAX_EXACT_UNITS:
        return np.array(list(permutations(range(n_units)))), True
    here_U = np.arange(n_units)
    rng = np.random.default_rng(seed)
    return np.vstack([here_U, rng.permuted(np.tile(here_U, (draws, 1)), axis=1)]), False


def share_as_far(statistic_Z: FloatArray) -> float:
    """Share of relabellings whose statistic is as large as that of the first, the observed one."""
    return float((statistic_Z >= statistic_Z[0] * (1 - 1e-9)).mean())


def inverted(p_at: Callable[[float], float], estimate: float, error: float) -> Interval:
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
