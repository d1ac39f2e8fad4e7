"""One language at a time: paired gains, standard errors by passage, many tests at once.

Shapes are suffixes: I items of one language, T tests.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from isogloss.errors import ComparisonError
from isogloss.types import FloatArray, Interval


class PairedGain(NamedTuple):
    """Gain of one language: `after` - `before` accuracy on the same items, as fractions.

    `t_p` is by passage, `mcnemar_p` by item, NaN where scores are means and not 0 or 1; `p` is the
    one to read (see `paired_gain`).
    """

    before: float
    after: float
    gain: float
    se: float
    interval: Interval
    t_p: float
    mcnemar_p: float
    p: float


def clustered_standard_error(values_I: npt.ArrayLike, cluster_I: npt.ArrayLike) -> float:
    """Cluster-robust standard error of the mean of `values_I`, in its unit.

    Both arrays have shape [I]; items with the same `cluster_I` (a passage) may be correlated.
    Miller 2024 (arXiv:2411.00640, Appendix A) with the finite-cluster factor C / (C - 1), which
    that paper leaves out: the value of inspect_ai's `stderr(cluster=...)`, and of statsmodels' OLS
    on a constant with `cov_type="cluster"` and its default correction. With a single cluster it is
    NaN, not zero. ComparisonError if the arrays are empty or differ in length.
    """
    values = np.asarray(values_I, dtype=np.float64)
    clusters = np.asarray(cluster_I)
    if values.ndim != 1 or values.shape != clusters.shape or not values.size:
        raise ComparisonError(
            f"a clustered standard error needs one cluster for each value and at least one value, "
            f"but got values of shape {values.shape} and clusters of shape {clusters.shape}."
        )
    _, index_I = np.unique(clusters, return_inverse=True)
    residual_C = np.bincount(index_I, weights=values - values.mean())
    n_clusters = len(residual_C)
    if n_clusters == 1:
        return math.nan
    variance = float((residual_C**2).sum()) * n_clusters / (n_clusters - 1)
    return math.sqrt(variance) / len(values)


def mcnemar_exact(before_I: npt.ArrayLike, after_I: npt.ArrayLike) -> float:
    """Two-sided exact McNemar p of paired correctness, both [I] of booleans.

    Binomial over the items on which the two differ; 1 if there are none. Equals statsmodels'
    `mcnemar(exact=True)`. It takes items as independent, so read it beside the clustered interval.
    """
    before, after = np.asarray(before_I, dtype=bool), np.asarray(after_I, dtype=bool)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return min(1.0, 2 * float(stats.binom.cdf(min(lost, won), lost + won, 0.5)))


def holm(p_T: npt.ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p values, [T], in the order given (Holm 1979).

    Equals statsmodels' `multipletests(method="holm")`.
    """
    p = np.asarray(p_T, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def paired_gain(
    before_I: npt.ArrayLike,
    after_I: npt.ArrayLike,
    cluster_I: npt.ArrayLike,
    *,
    single: bool = True,
) -> PairedGain:
    """Paired gain of one language from scores before and after, all arrays [I].

    Scores are correctness, or its mean over seeds or models. The paired difference of Miller 2024
    (arXiv:2411.00640) with its clustered error; the 95% interval takes Student's t with (clusters -
    1) degrees of freedom (Cameron and Miller 2015), a little wider than the paper's 1.96, and ends
    at -1 and 1. With one cluster, or with items that all changed alike, there is no telling the
    error: the interval is NaN, with one cluster `se` and `t_p` too. `single` says that two runs are
    compared and not means of several.

    `p` is the largest of `t_p`, which holds where items of one passage go together; McNemar's,
    which is exact where items are few (of means it would not hold: their differences are skew); and
    2 / 2^clusters, below which no exchange of the two conditions within passages can go.
    """
    before, after = np.asarray(before_I, dtype=np.float64), np.asarray(after_I, dtype=np.float64)
    se = clustered_standard_error(after - before, cluster_I)
    gain = float((after - before).mean())
    df = len(np.unique(np.asarray(cluster_I))) - 1
    half = se * float(stats.t.ppf(0.975, df)) if se > 0 else math.nan
    interval = Interval(*np.clip((gain - half, gain + half), -1.0, 1.0).tolist())
    t_p = math.nan
    if se > 0:
        t_p = float(2 * stats.t.sf(abs(gain) / se, df))
    elif se == 0:
        t_p = float(gain == 0)
    binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    mcnemar_p = mcnemar_exact(before, after) if binary and single else math.nan
    known = [p for p in (t_p, mcnemar_p) if not math.isnan(p)]
    return PairedGain(
        before=float(before.mean()),
        after=float(after.mean()),
        gain=gain,
        se=se,
        interval=interval,
        t_p=t_p,
        mcnemar_p=mcnemar_p,
        p=max([*known, 2.0**-df]),
    )
