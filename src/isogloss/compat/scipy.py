"""SciPy: two distributions without `scipy.stats`, whose import takes most of a second.

Relies on the functions of `scipy.special._ufuncs` from which `scipy.stats` computes them: there are
no public ones with the same rounding.
"""

import numpy as np
from scipy.special import _ufuncs

from isogloss.compat import public_only


def binomial_cdf(count: int, n: int, p: float) -> float:
    """`scipy.stats.binom.cdf`: the probability of `count` or fewer of `n`."""
    if public_only():
        from scipy import stats

        return float(stats.binom.cdf(count, n, p))
    if count >= n:
        return 1.0
    return float(np.clip(_ufuncs._binom_cdf(count, n, p), 0, 1)) if count >= 0 else 0.0


def noncentral_t_sf(value: float, df: float, noncentrality: float) -> float:
    """`scipy.stats.nct.sf`: the probability of more than `value`."""
    if public_only():
        from scipy import stats

        return float(stats.nct.sf(value, df, noncentrality))
    with np.errstate(over="ignore"):
        return float(np.clip(_ufuncs._nct_sf(value, df, noncentrality), 0, 1))
