"""The relatedness contrast at equal covariates, by permutation, with noise in the baseline removed.

Shapes are suffixes: L languages, K covariates, P passages, Z permutations.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError
from isogloss.stats.permutation import MAX_PERMUTATIONS, invert_test, permutation_p, unit_orders
from isogloss.types import FloatArray, Interval

CONSTANT = 1e-13  # range of a column whose largest value is 1: what rounding leaves
DEPENDENT = 1e-10  # singular value of linearly dependent columns, relative to their length
LEAST_RELIABLE = 1.25  # variance of baselines over their sampling variance


class AdjustedContrast(NamedTuple):
    """Difference between related and control languages at equal covariates, in units of the gains.

    `slopes` are the coefficients of the covariates.
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
    """Coefficient of relatedness in a least-squares fit of gains on it and on covariates, all [L].

    The test is that of Freedman and Lane 1983, as algorithm 1 of Winkler et al. 2014: the residuals
    of the fit without relatedness are permuted (`draws` random orders and the observed one), and
    the squared t of relatedness is compared. Without covariates this is a permutation test of a
    difference of means. The 95% interval contains every d for which the test of
    `gain_L - d * related_L` has p > 0.05; its ends are found by bisection.

    Raises ComparisonError if fewer than three degrees of freedom remain, or if relatedness is a
    linear combination of the covariates.
    """
    gain, related = np.asarray(gain_L, dtype=float), np.asarray(related_L, dtype=float)
    columns = [_standardised(values) for values in covariates.values()]
    nuisance_LK = np.column_stack([np.ones_like(gain), *(column.values for column in columns)])
    design = np.column_stack([nuisance_LK, related])
    _check_design(design, list(covariates))
    n, n_parameters = design.shape
    coefficients = np.linalg.pinv(design)
    nuisance_hat = nuisance_LK @ np.linalg.pinv(nuisance_LK)
    hat = design @ coefficients
    orders_ZL, _ = unit_orders(n, draws, seed)
    # The residual without relatedness is linear in the shift d: that of the gains minus d times
    # that of relatedness. So is the permuted effect, and the residual sum of squares is quadratic.
    residuals = [values - nuisance_hat @ values for values in (gain, related)]
    effects = [values[orders_ZL] @ coefficients[-1] for values in residuals]
    remainders = [values[orders_ZL] - values[orders_ZL] @ hat for values in residuals]
    squares = [
        np.einsum("zl,zl->z", remainders[i], remainders[j]) for i, j in ((0, 0), (0, 1), (1, 1))
    ]

    rounding = 1e-12 * max(1e-300, np.abs(gain).max())

    def p_at(shift: float) -> float:
        residual_L = residuals[0] - shift * residuals[1]
        if np.abs(residual_L).max() <= rounding:
            return 1.0  # a perfect fit without relatedness
        effect_Z = effects[0] - shift * effects[1]
        remaining_Z = squares[0] - 2 * shift * squares[1] + shift**2 * squares[2]
        return permutation_p(effect_Z**2 / np.maximum(remaining_Z, np.finfo(float).tiny))

    fit = coefficients @ gain
    residual_L = gain - hat @ gain
    perfect = np.abs(residual_L).max() <= rounding  # then the interval is a point
    error = (
        0.0
        if perfect
        else math.sqrt(
            float(residual_L @ residual_L)
            / (n - n_parameters)
            * float(coefficients[-1] @ coefficients[-1])
        )
    )
    estimate = float(fit[-1])
    return AdjustedContrast(
        estimate=estimate,
        p=p_at(0.0),
        interval=(
            invert_test(p_at, estimate, error) if with_interval else Interval(math.nan, math.nan)
        ),
        slopes={
            name: float(slope / column.scale)
            for name, slope, column in zip(covariates, fit[1:-1], columns, strict=True)
        },
        permutations=len(orders_ZL),
    )


class _Column(NamedTuple):
    """Values with mean 0 and standard deviation 1, and what a unit of them is in the original."""

    values: FloatArray
    scale: float


def _standardised(values: npt.ArrayLike) -> _Column:
    """A covariate of any unit, so that no column vanishes beside another; zero if constant."""
    values_L = np.asarray(values, dtype=float)
    largest = float(np.abs(values_L).max()) or 1.0
    scaled_L = values_L / largest  # first, since squares of large values overflow
    if np.ptp(scaled_L) <= CONSTANT:
        return _Column(np.zeros_like(scaled_L), largest)
    centred_L = scaled_L - scaled_L.mean()
    spread = float(centred_L.std())
    return _Column(centred_L / spread, largest * spread)


def _check_design(design: FloatArray, covariates: list[str]) -> None:
    """ComparisonError if too few degrees of freedom remain or columns are linearly dependent."""
    n, n_parameters = design.shape
    if n - n_parameters < 3:
        raise ComparisonError(
            f"adjusting for {', '.join(covariates)} leaves {max(0, n - n_parameters)} degrees of "
            f"freedom among {n} languages; at least 3 are needed."
        )
    if np.linalg.matrix_rank(design, tol=DEPENDENT * math.sqrt(n)) < n_parameters:
        raise ComparisonError(
            f"adjusting for {', '.join(covariates)} is not possible: among these languages "
            f"the values are constant, redundant, or separate the groups completely."
        )


def shared_noise(
    baseline_PL: FloatArray, gain_PL: FloatArray, weight_PL: FloatArray
) -> tuple[float, float]:
    """Sampling variance of a baseline, and its covariance with the gain, between languages.

    The arrays, [P, L], are the contributions of passages to the baseline, the gain and the items of
    each language, as in `slopes.scatter`. Noise that all languages share (an item that is hard in
    every language) moves no language against another, so the mean covariance between different
    languages is subtracted from the mean variance within languages.
    """
    n_passages, n_languages = weight_PL.shape
    baseline_residual_PL, gain_residual_PL = (
        share_PL - weight_PL * share_PL.sum(axis=0) for share_PL in (baseline_PL, gain_PL)
    )
    noise = []
    for residual_PL in (baseline_residual_PL, gain_residual_PL):
        products_LL = residual_PL.T @ baseline_residual_PL * n_passages / max(1, n_passages - 1)
        within = float(np.trace(products_LL))
        between = (float(products_LL.sum()) - within) / (n_languages - 1)
        noise.append((within - between) / n_languages)
    return noise[0], noise[1]


def without_shared_noise(
    gain_L: FloatArray,
    baseline_L: FloatArray,
    others_LK: FloatArray,
    noise_variance: float,
    noise_covariance: float,
) -> tuple[FloatArray, FloatArray]:
    """Gain and baseline, [L] each, corrected so that regressing one on the other is unbiased.

    Noise in the baseline enters the gain with opposite sign and attenuates the coefficient of the
    baseline. Both arrays are moved along r, the residual of the baseline on `others_LK`
    (relatedness and the other covariates), with variance v:

        gain - noise_covariance / v * r,    baseline - noise_variance / v * r

    which is regression calibration (Carroll, Ruppert, Stefanski and Crainiceanu 2006, chapter 4).
    `noise_variance` is the mean sampling variance of a baseline, `noise_covariance` the mean
    covariance of a gain with its baseline. ComparisonError if baselines vary barely more than their
    noise.
    """
    n = len(gain_L)
    columns = [_standardised(values).values for values in others_LK.T]
    design = np.column_stack([np.ones(n), *columns])
    residual_L = baseline_L - design @ np.linalg.lstsq(design, baseline_L, rcond=None)[0]
    variance = float(residual_L @ residual_L) / max(1, n - design.shape[1])
    # Rounding leaves a variance of 1e-33 in equal baselines.
    if variance <= max(LEAST_RELIABLE * noise_variance, 1e-12):
        raise ComparisonError(
            "the baselines of these languages differ by barely more than sampling noise, so there "
            "is nothing to adjust for."
        )
    return (
        gain_L - noise_covariance / variance * residual_L,
        baseline_L - noise_variance / variance * residual_L,
    )
