"""The relatedness contrast with other differences between the groups taken out.

Shapes are suffixes: L languages, K covariates, P passages, Z relabellings.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError
from isogloss.stats.permutation import MAX_PERMUTATIONS, invert_test, permutation_p, unit_orders
from isogloss.types import FloatArray, Interval


class AdjustedContrast(NamedTuple):
    """Difference between related and control at equal covariates, in the unit of the gains.

    `slopes` are the covariates' own coefficients.
    """

    estimate: float
    p: float
    interval: Interval
    slopes: Mapping[str, float]
    permutations: int


def freedman_lane(
    gain_L: npt.ArrayLike,
    related_L: npt.ArrayLike,
    covariates: Mapping[str, npt.ArrayLike],
    *,
    seed: int = 0,
    draws: int = MAX_PERMUTATIONS,
    with_interval: bool = True,
) -> AdjustedContrast:
    """Coefficient of `related_L` in a least-squares fit of `gain_L` on it and on covariates, [L].

    Freedman and Lane 1983, as algorithm 1 of Winkler et al. 2014: residuals of the fit without
    relatedness are permuted (`draws` seeded ones, with the observed order added), and the squared t
    of relatedness is compared. Without covariates this is a permutation test of a difference of
    means. The 95% interval holds every d for which the test, with d taken from each related gain,
    has p > 0.05; its ends are found by bisection. ComparisonError if the covariates leave fewer
    than three degrees of freedom, or if relatedness is a combination of them.
    """
    gain, related = np.asarray(gain_L, dtype=float), np.asarray(related_L, dtype=float)
    columns = [np.asarray(values, dtype=float) for values in covariates.values()]
    nuisance_LK = np.column_stack([np.ones_like(gain), *columns])
    design = np.column_stack([nuisance_LK, related])
    n, n_parameters = design.shape
    if n - n_parameters < 3:
        raise ComparisonError(
            f"adjusting for {', '.join(covariates)} leaves {max(0, n - n_parameters)} degrees of "
            f"freedom among {n} languages; at least 3 are needed."
        )
    scales = np.abs(design).max(axis=0)
    if np.linalg.matrix_rank(design / np.where(scales > 0, scales, 1)) < n_parameters:
        raise ComparisonError(
            f"adjusting for {', '.join(covariates)} is not possible: among these languages they "
            f"are constant, say the same thing twice, or tell the groups apart completely."
        )
    coefficients = np.linalg.pinv(design)
    nuisance_hat = nuisance_LK @ np.linalg.pinv(nuisance_LK)
    hat = design @ coefficients
    orders_ZL, _ = unit_orders(n, draws, seed)
    # The residual without relatedness is linear in the shift d: of the gains, less d times that of
    # relatedness. So is its effect after permutation, and what is left of it is quadratic.
    residuals = [values - nuisance_hat @ values for values in (gain, related)]
    effects = [values[orders_ZL] @ coefficients[-1] for values in residuals]
    left = [values[orders_ZL] - values[orders_ZL] @ hat for values in residuals]
    squares = [np.einsum("zl,zl->z", left[i], left[j]) for i, j in ((0, 0), (0, 1), (1, 1))]

    def p_at(shift: float) -> float:
        remaining = residuals[0] - shift * residuals[1]
        if np.abs(remaining).max() <= 1e-12 * max(1e-300, np.abs(gain).max()):
            return 1.0  # a perfect fit without relatedness
        effect_Z = effects[0] - shift * effects[1]
        left_Z = squares[0] - 2 * shift * squares[1] + shift**2 * squares[2]
        return permutation_p(effect_Z**2 / np.maximum(left_Z, np.finfo(float).tiny))

    fit = coefficients @ gain
    spread = gain - hat @ gain
    error = math.sqrt(
        float(spread @ spread) / (n - n_parameters) * float(coefficients[-1] @ coefficients[-1])
    )
    estimate = float(fit[-1])
    interval = Interval(math.nan, math.nan)
    if with_interval:
        interval = invert_test(p_at, estimate, error)
    return AdjustedContrast(
        estimate=estimate,
        p=p_at(0.0),
        interval=interval,
        slopes=dict(zip(covariates, map(float, fit[1:-1]), strict=True)),
        permutations=len(orders_ZL),
    )


def shared_noise(
    baseline_PL: FloatArray, gain_PL: FloatArray, weight_PL: FloatArray
) -> tuple[float, float]:
    """Sampling variance of a baseline and covariance of a gain with it, between languages.

    Arrays are shares of passages in what languages score, as in `slopes.scatter`. What all
    languages share of the noise moves no language against another and is taken out.
    """
    n_passages, n = weight_PL.shape
    baseline, gain = (
        share_PL - weight_PL * share_PL.sum(axis=0) for share_PL in (baseline_PL, gain_PL)
    )
    noise = []
    for other in (baseline, gain):
        products = other.T @ baseline * n_passages / max(1, n_passages - 1)
        own = float(np.trace(products))
        noise.append((own - (float(products.sum()) - own) / (n - 1)) / n)
    return noise[0], noise[1]


def without_shared_noise(
    gain_L: FloatArray,
    baseline_L: FloatArray,
    others_LK: FloatArray,
    noise_variance: float,
    noise_covariance: float,
) -> tuple[FloatArray, FloatArray]:
    """Gain and baseline, [L] each, such that a regression of one on the other is unbiased.

    The baseline's noise is in the gain too, and attenuates the baseline's own coefficient. Both
    arrays are moved along the residual of the baseline on `others_LK` (with relatedness among
    them), whose share of noise is known: regression calibration (Carroll, Ruppert, Stefanski and
    Crainiceanu 2006, chapter 4). `noise_variance` is the mean sampling variance of a baseline,
    `noise_covariance` that of a gain with its baseline. ComparisonError if the baselines vary no
    more than their noise.
    """
    n = len(gain_L)
    design = np.column_stack([np.ones(n), others_LK])
    residual_L = baseline_L - design @ np.linalg.lstsq(design, baseline_L, rcond=None)[0]
    variance = float(residual_L @ residual_L) / max(1, n - design.shape[1])
    if variance <= max(1.25 * noise_variance, 1e-12):  # rounding leaves 1e-33 of equal baselines
        raise ComparisonError(
            "the baselines of these languages differ hardly more than by sampling noise, so there "
            "is nothing to adjust for."
        )
    return (
        gain_L - noise_covariance / variance * residual_L,
        baseline_L - noise_variance / variance * residual_L,
    )
