"""Probabilities and quantiles of distributions, as `scipy.stats` computes them.

From the functions of `scipy.special` that it calls: to import `scipy.stats` takes most of a second.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from isogloss.types import FloatArray


def normal_quantile(p: float) -> float:
    """`scipy.stats.norm.ppf`."""
    return float(special.ndtri(p))


def t_quantile(p: float, df: float) -> float:
    """`scipy.stats.t.ppf`: the value that Student's t is below with probability `p`."""
    return float(special.stdtrit(df, p)) if df > 0 else math.nan


def t_upper(value: float, df: float) -> float:
    """`scipy.stats.t.sf`: the probability that Student's t is above a value."""
    return float(special.stdtr(df, -value)) if df > 0 else math.nan


def chi2_quantile(p_Q: npt.ArrayLike, df: float) -> FloatArray:
    """`scipy.stats.chi2.ppf`, [Q]."""
    quantile_Q = 2 * special.gammaincinv(df / 2, np.asarray(p_Q))
    return np.asarray(quantile_Q, dtype=np.float64)


def ranks(value_N: FloatArray) -> FloatArray:
    """`scipy.stats.rankdata`: ranks from 1, equal values have their mean rank, [N]."""
    _, place_N, count_D = np.unique(value_N, return_inverse=True, return_counts=True)
    last_D = np.cumsum(count_D)
    rank_D: FloatArray = (last_D + (last_D - count_D) + 1) / 2
    return rank_D[place_N]
