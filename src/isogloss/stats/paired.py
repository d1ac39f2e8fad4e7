"""One language: the paired gain, its clustered error, McNemar's test and interval; Holm's method.

Shapes are suffixes: I items of one language, C clusters (passages), T tests.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.compat.scipy import binomial_cdf
from isogloss.errors import ComparisonError
from isogloss.stats.distributions import normal_quantile, t_quantile, t_upper
from isogloss.types import FloatArray, Interval


class PairedGain(NamedTuple):
    """Gain of one language: `after` - `before` accuracy on the same items, as fractions.

    `interval` and `t_p` treat passages as replicates, `mcnemar_interval` and `mcnemar_p` items;
    `mcnemar_p` is NaN where scores are not 0 or 1. `p` is the one to read (see `paired_gain`).
    """

    before: float
    after: float
    gain: float
    se: float
    interval: Interval
    t_p: float
    mcnemar_interval: Interval
    mcnemar_p: float
    p: float


def clustered_standard_error(values_I: npt.ArrayLike, cluster_I: npt.ArrayLike) -> float:
    """Cluster-robust standard error of the mean of `values_I`, in its unit.

    Both arrays are [I]; items of one cluster (a passage) may be correlated. With residuals r and C
    clusters,

        se^2 = C / (C - 1) * sum over clusters (sum of r in the cluster)^2 / I^2,

    which is Miller 2024 (arXiv:2411.00640, Appendix A) with the finite-cluster factor that the
    paper omits. Equals inspect_ai's `stderr(cluster=...)`, and statsmodels' OLS on a constant with
    `cov_type="cluster"` and its default correction. NaN with a single cluster. ComparisonError if
    the arrays are empty or differ in length.
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

    Binomial over the discordant items; 1 if there are none. Equals statsmodels'
    `mcnemar(exact=True)`. It assumes independent items, so read it together with the
    clustered interval.
    """
    before, after = np.asarray(before_I, dtype=bool), np.asarray(after_I, dtype=bool)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return min(1.0, 2 * binomial_cdf(min(lost, won), lost + won, 0.5))


def mcnemar_interval(before_I: npt.ArrayLike, after_I: npt.ArrayLike) -> Interval:
    """95% interval of a difference of paired proportions, as analyses with McNemar's test print it.

    With `won` and `lost` discordant items of I, both arrays [I],

        (won - lost) / I  +-  1.96 sqrt(won + lost - (won - lost)^2 / I) / I,

    method 1 of Newcombe 1998 (Statistics in Medicine 17:2635), a Wald interval, clipped to [-1, 1].
    For means over seeds or models, the same formula in the mean change of each item. It takes items
    as independent, and is a single point where all items changed alike.
    """
    change = np.asarray(after_I, dtype=np.float64) - np.asarray(before_I, dtype=np.float64)
    gain = float(change.mean())
    half = normal_quantile(0.975) * float(change.std()) / math.sqrt(len(change))
    return Interval(*np.clip((gain - half, gain + half), -1.0, 1.0).tolist())


def holm(p_T: npt.ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p values, [T], in the order of `p_T` (Holm 1979).

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

    Scores are correctness, or its mean over seeds or models; `single` is False for such means. The
    paired difference of Miller 2024 (arXiv:2411.00640) with its clustered standard error. The 95%
    interval uses Student's t with (clusters - 1) degrees of freedom (Cameron and Miller 2015), a
    little wider than the paper's 1.96, and is clipped to [-1, 1]. With one cluster, or if all items
    changed alike, the error is unknown and the interval is NaN; with one cluster `se` and `t_p` are
    NaN too.

    `p` is the largest of

    - `t_p`, valid where items of a passage are correlated;
    - `mcnemar_p`, exact where items are few (not for means, whose differences are skewed);
    - 2 / 2^clusters, the smallest p that exchanging conditions within passages can reach.
    """
    before, after = np.asarray(before_I, dtype=np.float64), np.asarray(after_I, dtype=np.float64)
    se = clustered_standard_error(after - before, cluster_I)
    gain = float((after - before).mean())
    df = len(np.unique(np.asarray(cluster_I))) - 1
    half = se * t_quantile(0.975, df) if se > 0 else math.nan
    interval = Interval(*np.clip((gain - half, gain + half), -1.0, 1.0).tolist())
    t_p = math.nan
    if se > 0:
        t_p = 2 * t_upper(abs(gain) / se, df)
    elif se == 0:
        t_p = float(gain == 0)
    binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    mcnemar_p = mcnemar_exact(before, after) if binary and single else math.nan
    defined = [p for p in (t_p, mcnemar_p) if not math.isnan(p)]
    return PairedGain(
        before=float(before.mean()),
        after=float(after.mean()),
        gain=gain,
        se=se,
        interval=interval,
        t_p=t_p,
        mcnemar_interval=mcnemar_interval(before, after),
        mcnemar_p=mcnemar_p,
        p=max([*defined, 2.0**-df]),
    )
