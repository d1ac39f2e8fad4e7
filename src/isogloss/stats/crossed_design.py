"""The part of a crossed analysis that does not depend on gains: effects taken out, and matchings.

Shapes are suffixes: S sources, T targets, B branches of sources, N observed cells, P parameters,
Z matchings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError
from isogloss.stats.permutation import MAX_PERMUTATIONS, unit_orders
from isogloss.types import BoolArray, FloatArray

MAX_EXACT_BRANCHES = 8  # 40,320 matchings
TOLERANCE = 1e-9  # of sums that are zero but for rounding, relative to their scale


@dataclass(frozen=True)
class CrossedDesign:
    """Kinship of branches of sources with targets, and what it is permuted over.

    Sources of one branch are averaged to one row, so that rows are independent replicates:
    `average` [B, S] holds the weights. `basis` [N, P] spans the effects of rows and targets and the
    covariates over the observed cells. `kin_residual` [B, T] is kinship without them, zero where a
    cell is not observed; `profile` [B, T] is the same as a prediction for every cell. Its rows are
    permuted: `orders` [Z, B] gives the row that each row of gains is matched with, the observed
    matching first. `matchings` counts the different ones: all if `exact`, else the random ones and
    the observed one.
    """

    average: FloatArray
    observed: BoolArray
    basis: FloatArray
    kin_residual: FloatArray
    profile: FloatArray
    orders: npt.NDArray[np.intp]
    matchings: int
    exact: bool

    def residual(self, value_BT: FloatArray) -> FloatArray:
        """`value_BT` without the effects and covariates, zero where a cell is not observed."""
        value_N = value_BT[self.observed]
        residual_BT = np.zeros(self.observed.shape)
        residual_BT[self.observed] = value_N - self.basis @ (self.basis.T @ value_N)
        return residual_BT

    def gain_residual(self, gain_ST: FloatArray) -> FloatArray:
        """Gains without the effects and covariates, [B, T]; exactly zero where but for rounding."""
        gain_BT = self.average @ np.nan_to_num(gain_ST)
        residual_BT = self.residual(gain_BT)
        residual_BT[np.abs(residual_BT) < 1e-12 * np.abs(gain_BT[self.observed]).max()] = 0.0
        return residual_BT

    def matched_rows(self, residual_BT: FloatArray) -> FloatArray:
        """Products of a residual with matched kinship, summed over targets, [Z, B].

        Matched kinship is the permuted profile without the effects and covariates.
        """
        rows_ZB = _entries(residual_BT @ self.profile.T, self.orders)
        own_BP = np.einsum("bt,btp->bp", residual_BT, self._basis_of_rows)
        rows_ZB -= self._along @ own_BP.T
        return rows_ZB

    def scores(self, rows_ZB: FloatArray) -> FloatArray:
        """`matched_rows` without what the estimate of each matching explains, [Z, B]."""
        estimate_Z = rows_ZB.sum(axis=1) / self.norm**2
        scores: FloatArray = rows_ZB - estimate_Z[:, None] * self._squares
        return scores

    @cached_property
    def norm(self) -> FloatArray:
        """Length of matched kinship, [Z]; infinite where nothing of it remains."""
        norm_Z = np.sqrt(self._squares.sum(axis=1))
        return np.where(norm_Z <= 1e-6 * norm_Z[0], math.inf, norm_Z)

    @cached_property
    def cross(self) -> FloatArray:
        """Product of matched with observed kinship, divided by the length of the former, [Z]."""
        cross: FloatArray = self.matched_rows(self.kin_residual).sum(axis=1) / self.norm
        return cross

    @cached_property
    def kin_scores(self) -> FloatArray:
        """`scores` of observed kinship, [Z, B]."""
        return self.scores(self.matched_rows(self.kin_residual))

    @property
    def rank(self) -> int:
        """How many independent rows kinship has; each costs the interaction degrees of freedom."""
        return int(np.linalg.matrix_rank(self.profile, tol=1e-7 * abs(self.profile).max()))

    @cached_property
    def _basis_of_rows(self) -> FloatArray:
        """The basis by row and target, [B, T, P], zero where a cell is not observed."""
        basis_BTP = np.zeros((*self.observed.shape, self.basis.shape[1]))
        basis_BTP[self.observed] = self.basis
        return basis_BTP

    @cached_property
    def _along_pairs(self) -> FloatArray:
        """The part along the basis of each row of the profile in each place, [B, B, P]."""
        along: FloatArray = np.einsum("btp,at->bap", self._basis_of_rows, self.profile)
        return along

    @cached_property
    def _along(self) -> FloatArray:
        """The part of the permuted profile along the basis, [Z, P]; zero where all is observed."""
        along_ZP = np.zeros((len(self.orders), self.basis.shape[1]))
        for row, matched_Z in enumerate(self.orders.T):
            along_ZP += self._along_pairs[row, matched_Z]
        along_ZP[np.abs(along_ZP) < 1e-12 * np.abs(self.profile).max()] = 0.0
        return along_ZP

    @cached_property
    def _squares(self) -> FloatArray:
        """Sum of squares of matched kinship in each row, [Z, B]."""
        along_ZP, basis_BTP = self._along, self._basis_of_rows
        squares_ZB = _entries(self.observed.astype(float) @ (self.profile**2).T, self.orders)
        if along_ZP.any():
            for row, matched_Z in enumerate(self.orders.T):
                crossed_ZP = along_ZP @ (basis_BTP[row].T @ basis_BTP[row])
                crossed_ZP -= 2 * self._along_pairs[row, matched_Z]
                squares_ZB[:, row] += (crossed_ZP * along_ZP).sum(axis=1)
        return np.maximum(squares_ZB, 0.0)


def crossed_design(
    kin_ST: FloatArray,
    observed_ST: BoolArray,
    source_branch: Sequence[str],
    covariates: Mapping[str, FloatArray],
    *,
    seed: int = 0,
    draws: int = MAX_PERMUTATIONS,
    max_exact_branches: int = MAX_EXACT_BRANCHES,
) -> CrossedDesign:
    """The design of `kin_ST` and dyadic covariates, all [S, T], over the observed cells.

    Sources with equal `source_branch`, [S], become one row; a cell of that row is observed if it is
    for each of them. Matchings are all orders of up to `max_exact_branches` rows, otherwise
    `draws` random ones.

    Rows of kinship without the effects and the covariates are permuted: double semi-partialling
    (Dekker, Krackhardt and Snijders, "Sensitivity of MRQAP tests to collinearity and
    autocorrelation conditions", Psychometrika 72, 2007), here over rows alone. Without covariates
    this is a permutation of kinship itself.

    Raises ComparisonError if no cell of a row is observed, or if covariates or kinship are
    combinations of the effects and of others.
    """
    average_BS = _averages(source_branch)
    observed_BT = average_BS @ ~observed_ST == 0
    for row, branch in enumerate(dict.fromkeys(source_branch)):
        if not observed_BT[row].any():
            raise ComparisonError(
                f"each branch of sources needs a target with gains from all of its sources, but "
                f"{branch} has none."
            )
    kin_BT = average_BS @ kin_ST
    effects_NP = _effects(observed_BT)
    columns_N = [(average_BS @ values_ST)[observed_BT] for values_ST in covariates.values()]
    nuisance_NP = np.column_stack([effects_NP, *columns_N])
    basis_NP = _basis(nuisance_NP)
    if basis_NP.shape[1] < _basis(effects_NP).shape[1] + len(columns_N):
        raise ComparisonError(
            f"adjusting for {', '.join(covariates)} is not possible: among these cells they are "
            f"redundant, or combinations of the effects of sources and of targets."
        )
    kin_N = kin_BT[observed_BT]
    residual_N = kin_N - basis_NP @ (basis_NP.T @ kin_N)
    if residual_N @ residual_N <= TOLERANCE * max(kin_N @ kin_N, np.finfo(float).tiny):
        beyond = f" and {', '.join(covariates)}" if covariates else ""
        raise ComparisonError(
            f"among these cells kinship is a combination of the effects of sources and of "
            f"targets{beyond}, so that its own effect cannot be estimated."
        )
    # Fitted over observed cells, predicted for all: a permuted row meets other observed cells.
    profile_BT = kin_BT - _fitted(nuisance_NP, kin_BT, observed_BT, average_BS, covariates)
    residual_BT = np.zeros(observed_BT.shape)
    residual_BT[observed_BT] = residual_N
    orders_ZB, exact = unit_orders(len(average_BS), draws, seed, max_exact_units=max_exact_branches)
    return CrossedDesign(
        average=average_BS,
        observed=observed_BT,
        basis=basis_NP,
        kin_residual=residual_BT,
        profile=profile_BT,
        orders=orders_ZB,
        matchings=_n_matchings(profile_BT) if exact else len(orders_ZB),
        exact=exact,
    )


def covariate_slopes(
    design: CrossedDesign, value_BT: FloatArray, covariates: Mapping[str, FloatArray]
) -> dict[str, float]:
    """Least-squares coefficients of covariates, [S, T] each, beside effects of rows and targets.

    `value_BT` are the gains of branches of sources without the effect of kinship.
    """
    if not covariates:
        return {}
    columns = [(design.average @ values)[design.observed] for values in covariates.values()]
    design_NP = np.column_stack([_effects(design.observed), *columns])
    fit = np.linalg.lstsq(design_NP, value_BT[design.observed], rcond=1e-10)[0]
    return dict(zip(covariates, map(float, fit[-len(columns) :]), strict=True))


def _averages(source_branch: Sequence[str]) -> FloatArray:
    """Weights that average the sources of each branch, [B, S], in order of first appearance."""
    branches = list(dict.fromkeys(source_branch))
    member_BS = np.array([[own == branch for own in source_branch] for branch in branches], float)
    weights: FloatArray = member_BS / member_BS.sum(axis=1, keepdims=True)
    return weights


def _effects(observed_BT: BoolArray) -> FloatArray:
    """Indicators of rows and of targets over the observed cells, [N, P]."""
    row_N, target_N = np.nonzero(observed_BT)
    n_rows, n_targets = observed_BT.shape
    return np.column_stack([np.eye(n_rows)[row_N], np.eye(n_targets)[target_N]])


def _basis(columns_NP: FloatArray) -> FloatArray:
    """Orthonormal basis of the columns."""
    scales = np.abs(columns_NP).max(axis=0)
    left, size, _ = np.linalg.svd(columns_NP / np.where(scales > 0, scales, 1), full_matrices=False)
    basis: FloatArray = left[:, size > 1e-9 * size[0]]
    return basis


def _fitted(
    nuisance_NP: FloatArray,
    kin_BT: FloatArray,
    observed_BT: BoolArray,
    average_BS: FloatArray,
    covariates: Mapping[str, FloatArray],
) -> FloatArray:
    """Kinship as predicted from effects and covariates, [B, T], also where not observed."""
    n_rows, n_targets = observed_BT.shape
    fit = np.linalg.lstsq(nuisance_NP, kin_BT[observed_BT], rcond=1e-10)[0]
    fitted_BT: FloatArray = fit[:n_rows, None] + fit[None, n_rows : n_rows + n_targets]
    for slope, values_ST in zip(fit[n_rows + n_targets :], covariates.values(), strict=True):
        fitted_BT = fitted_BT + slope * (average_BS @ values_ST)
    return fitted_BT


def _entries(table_BB: FloatArray, orders_ZB: npt.NDArray[np.intp]) -> FloatArray:
    """The entries (row, matched row) of a table, for each matching and row, [Z, B]."""
    entries: FloatArray = table_BB[np.arange(len(table_BB)), orders_ZB]
    return entries


def _n_matchings(profile_BT: FloatArray) -> int:
    """How many different matrices the orders of these rows make: equal rows exchange nothing."""
    scale = max(np.abs(profile_BT).max(), np.finfo(float).tiny)
    # Effects of rows are taken out again after the permutation, so rows are compared without them.
    centred = profile_BT - profile_BT.mean(axis=1, keepdims=True)
    _, counts = np.unique(np.round(centred / scale, 9) + 0.0, axis=0, return_counts=True)
    return math.factorial(len(profile_BT)) // math.prod(map(math.factorial, map(int, counts)))
