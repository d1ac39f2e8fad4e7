"""Power of a crossed design: what a number of sources, relatives, items and seeds can show.

Gains y[s, t] of S sources, each of a branch of its own, on the R targets of each of these branches.
Beside an effect of each source and one of each target, an adapter's gain on a target differs by

    branches^2 + (languages^2 + seeds^2 / n_seeds + items^2 / n_items) / R

in the mean over a branch. The effect of kinship has S - 1 times the information of such a mean.
All gains and standard deviations are fractions. Shapes are suffixes: S sources, T targets, N
measured gains.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats import power as statistics
from isogloss.stats.crossed_design import MAX_EXACT_BRANCHES
from isogloss.stats.permutation import MAX_PERMUTATIONS
from isogloss.types import FloatArray

MIN_SOURCES = 3  # with two there are no degrees of freedom


@dataclass(frozen=True)
class CrossedSpread:
    """Components of the spread of gains beside effects of sources and targets: standard deviations.

    `branches`: of an adapter's effect on all targets of a branch. `languages`: of its effect on one
    target beside that. `seeds`: of one adapter's gain on one target between seeds. `items`: of one
    answer, see `answer_spread`.
    """

    branches: float
    languages: float
    seeds: float
    items: float

    def of_target(self, n_items: int, n_seeds: int) -> float:
        """Standard deviation of one measured gain beside effects of source, target and branch."""
        return math.sqrt(self.languages**2 + self.seeds**2 / n_seeds + self.items**2 / n_items)


@dataclass(frozen=True)
class CrossedPower:
    """What a crossed design can show.

    `error` is the standard error of the effect of kinship, `matchings` the number of matchings of
    sources with branches that the test uses, `lowest_p` the lowest p there can be. `significant` is
    the smallest measured effect with p <= 0.05, `minimum_detectable_effect` the smallest true
    effect detected with 80% power, both infinite if there are too few matchings. `power` is the
    probability of detecting a true effect of `effect`, `equivalence` that of showing a true effect
    of zero to be equivalent.
    """

    sources: int
    relatives: int
    matchings: int
    lowest_p: float
    error: float
    significant: float
    minimum_detectable_effect: float
    effect: float
    power: float
    equivalence: float


def answer_spread(discordant: float, items_per_passage: float, passage_correlation: float) -> float:
    """Standard deviation of one item's correctness between adapters of one model.

    Two adapters differ in correctness on a share `discordant` of items, so that the variance
    between them is half that share. The answers of the base model and the difficulty of an item are
    the same for all adapters and cancel. Clustering by passage multiplies the variance by Kish's
    design effect, as in `item_spread`.
    """
    return math.sqrt(discordant / 2 * (1 + (items_per_passage - 1) * passage_correlation))


def crossed_power(
    spread: CrossedSpread,
    sources: int,
    relatives: int,
    *,
    items: int,
    seeds: int,
    effect: float,
    margin: float,
) -> CrossedPower:
    """Power of a crossed design whose S sources have `relatives` targets each.

    The test of matchings, whose statistic is studentised by the scores of the sources, has about
    the power of Student's t with S - 1 degrees of freedom at the level that the matchings attain.
    ConfigError if there are fewer than three sources or gains do not vary.
    """
    if sources < MIN_SOURCES:
        raise ConfigError(
            f"a crossed design needs at least {MIN_SOURCES} sources but got {sources}."
        )
    error = effect_error(spread, sources, relatives, items=items, seeds=seeds)
    if not error > 0:
        raise ConfigError(f"the spread of measured gains must be positive but got {error}.")
    df = sources - 1
    level, level_90 = (matching_level(sources, alpha) for alpha in (0.05, 0.10))
    matchings = n_matchings(sources)
    return CrossedPower(
        sources=sources,
        relatives=relatives,
        matchings=matchings,
        lowest_p=1 / matchings,
        error=error,
        significant=statistics.critical_effect(error, df, level),
        minimum_detectable_effect=statistics.detectable_by_t(error, df, level),
        effect=effect,
        power=statistics.power_of_t(effect, error, df, level),
        equivalence=statistics.equivalence_by_t(margin, error, df, level_90),
    )


def pilot_crossed_spread(
    gain_ST: FloatArray,
    source_branch: npt.NDArray[np.intp],
    target_branch: npt.NDArray[np.intp],
    *,
    items: float,
    seeds: float,
    n_items: int,
    n_seeds: int,
) -> CrossedSpread:
    """Components of the spread of a pilot's gains, [S, T]; NaN where left out or missing.

    Variances by Henderson's method III: that of targets within a branch from the residuals beside
    effects of targets and of sources in each branch; that of branches from what these effects
    explain beyond sources, targets and kinship. `items` and `seeds` are standard deviations as in
    `CrossedSpread`: their part at the pilot's numbers is taken from the variance of targets, and
    scaled down where it exceeds that. ComparisonError if too few gains are left.
    """
    seen_ST = np.isfinite(gain_ST)
    source_N, target_N = np.nonzero(seen_ST)
    gain_N, branch_N = gain_ST[seen_ST], target_branch[target_N]
    kin_N = source_branch[source_N] == branch_N
    additive = np.hstack(
        [_indicators(source_N), _indicators(target_N), kin_N[:, None].astype(np.float64)]
    )
    in_branch = _indicators(source_N * (int(target_branch.max()) + 1) + branch_N)
    reduced, full = _residuals(additive), _residuals(np.hstack([additive, in_branch]))
    df_full = round(float(np.trace(full)))
    between = reduced - full
    if df_full < 1 or round(float(np.trace(between))) < 1:
        raise ComparisonError(
            f"the pilot's {len(gain_N)} gains of {seen_ST.shape[0]} sources on "
            f"{seen_ST.shape[1]} targets are too few to estimate their spread."
        )
    within = float(gain_N @ full @ gain_N) / df_full
    share = float(np.trace(in_branch.T @ reduced @ in_branch))
    explained = float(gain_N @ between @ gain_N) - float(np.trace(between)) * within
    sampling = items**2 / n_items + seeds**2 / n_seeds
    scale = min(1.0, within / sampling) if sampling else 1.0
    return CrossedSpread(
        branches=math.sqrt(max(0.0, explained / share)),
        languages=math.sqrt(max(0.0, within - sampling)),
        seeds=seeds * math.sqrt(scale),
        items=items * math.sqrt(scale),
    )


def effect_error(
    spread: CrossedSpread, sources: int, relatives: int, *, items: int, seeds: int
) -> float:
    """Standard error of the effect of kinship in a balanced crossed design.

    Targets of branches without a source add nothing to it: within their columns kinship does not
    vary.
    """
    cell = spread.branches**2 + spread.of_target(items, seeds) ** 2 / relatives
    return math.sqrt(cell / (sources - 1))


def matching_level(sources: int, alpha: float) -> float:
    """The exact level of the test of matchings at `alpha`: a multiple of one over their number.

    It is 1/24 for four sources at an alpha of 0.05, and 0 for three, whose lowest p is 1/6.
    """
    matchings = n_matchings(sources)
    return math.floor(matchings * alpha + 1e-9) / matchings


def n_matchings(sources: int) -> int:
    """How many matchings the test uses: all of up to eight sources, else random ones."""
    return math.factorial(sources) if sources <= MAX_EXACT_BRANCHES else MAX_PERMUTATIONS + 1


def _indicators(unit_N: npt.NDArray[np.intp]) -> FloatArray:
    """One column per distinct unit, 1 where an observation belongs to it."""
    matrix: FloatArray = (unit_N[:, None] == np.unique(unit_N)).astype(np.float64)
    return matrix


def _residuals(columns: FloatArray) -> FloatArray:
    """The projection on what the columns do not explain."""
    projection: FloatArray = np.eye(len(columns)) - columns @ np.linalg.pinv(columns)
    return projection
