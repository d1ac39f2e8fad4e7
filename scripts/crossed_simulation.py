"""Simulated crossed studies with a known truth: every source's adapter is evaluated on all targets.

Shapes are suffixes: S sources, T targets, F branches, I items, P passages.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from isogloss.types import BoolArray, FloatArray
from scripts.simulation import expected_accuracy

POPULATION = 400  # studies whose mean is the effect in the population


@dataclass(frozen=True)
class CrossedPopulation:
    """A population of sources, targets and items, in log-odds of a correct answer before guessing.

    There are `relatives` targets of each branch (one number per branch), and a source of each of
    the first `sources` branches, or of all if that is 0. If `sources_evaluated`, the
    sources are targets too, without a result from their own adapter. A target starts from
    `baseline` with standard deviation `baseline_spread` and gains `gain` with `gain_spread`,
    whatever the source; both deviations correlate by `family_correlation` within a branch. The gain
    of a source's adapter is multiplied by its strength, of standard deviation `strength_spread`
    around 1. An adapter's effect on one target has `adapter_spread`, and correlates by
    `adapter_correlation` between targets of one branch. Relatives gain `kinship` more, with
    `kinship_spread` between sources.

    `missing` is the share of cells without a result. Items are the same in all languages: their
    difficulty has `passage_spread` and `item_spread`, an item's effect in one language
    `interaction_spread`, the effect of an adapter on a passage in one language `change_spread`.
    Guessing is correct with probability `guess_rate`.
    """

    relatives: tuple[int, ...] = (4,) * 6
    sources: int = 0
    sources_evaluated: bool = False
    items: int = 200
    passages: int = 108
    baseline: float = -0.3
    baseline_spread: float = 0.5
    gain: float = 0.8
    gain_spread: float = 0.4
    family_correlation: float = 0.5
    strength_spread: float = 0.0
    adapter_spread: float = 0.15
    adapter_correlation: float = 0.3
    kinship: float = 0.0
    kinship_spread: float = 0.0
    missing: float = 0.0
    passage_spread: float = 0.7
    item_spread: float = 0.7
    interaction_spread: float = 0.5
    change_spread: float = 0.4
    guess_rate: float = 0.25

    @property
    def source_branch(self) -> npt.NDArray[np.intp]:
        """Number of the branch of each source, [S]."""
        return np.arange(self.sources or len(self.relatives))

    @property
    def target_branch(self) -> npt.NDArray[np.intp]:
        """Number of the branch of each target, [T]."""
        branch_F = np.arange(len(self.relatives))
        with_source_F = np.isin(branch_F, self.source_branch) & self.sources_evaluated
        return np.repeat(branch_F, np.add(self.relatives, with_source_F))

    @property
    def is_source(self) -> BoolArray:
        """Whether a target is the source itself, [S, T]: the first of its branch."""
        is_source_ST = np.zeros(self.kin.shape, bool)
        if self.sources_evaluated:
            is_source_ST[self.source_branch, self.kin.argmax(axis=1)] = True
        return is_source_ST

    @property
    def kin(self) -> BoolArray:
        """Whether source and target are of one branch, [S, T]."""
        kin_ST: BoolArray = self.source_branch[:, None] == self.target_branch
        return kin_ST


class CrossedStudy(NamedTuple):
    """Gains in accuracy of each source's adapter on each target, [S, T]; NaN where missing.

    `truth` has the gains expected over all possible items.
    """

    gain: FloatArray
    truth: FloatArray


def simulate_crossed(population: CrossedPopulation, rng: np.random.Generator) -> CrossedStudy:
    """One study of the population: new sources, targets, adapters and items."""
    base_T, tuned_ST = _logits(population, rng)
    passage_I = np.arange(population.items) * population.passages // population.items
    difficulty_I = population.passage_spread * rng.standard_normal(population.passages)[passage_I]
    difficulty_I = difficulty_I + population.item_spread * rng.standard_normal(population.items)
    noise_TI = population.interaction_spread * rng.standard_normal((len(base_T), population.items))
    shape = (*tuned_ST.shape, population.passages)
    change_STI = population.change_spread * rng.standard_normal(shape)[..., passage_I]
    base_T_observed = _answered(population, base_T[:, None] + noise_TI - difficulty_I, rng)
    tuned_observed_ST = _answered(
        population, tuned_ST[..., None] + noise_TI + change_STI - difficulty_I, rng
    )
    gain_ST = tuned_observed_ST - base_T_observed
    missing_ST = rng.random(gain_ST.shape) < population.missing
    gain_ST[missing_ST | population.is_source] = np.nan
    return CrossedStudy(gain=gain_ST, truth=_true_gain(population, base_T, tuned_ST))


def kinship_effect(gain_ST: FloatArray, kin_ST: BoolArray) -> float:
    """Least-squares effect of kinship beside effects of sources and targets, of complete gains."""
    centred_ST = _centred(kin_ST.astype(np.float64))
    return float((centred_ST * gain_ST).sum() / (centred_ST**2).sum())


@lru_cache(maxsize=64)
def population_effect(population: CrossedPopulation, studies: int = POPULATION) -> float:
    """The effect of kinship on expected accuracies, mean over many studies."""
    rng = np.random.default_rng(11)
    return float(
        np.mean(
            [
                kinship_effect(_true_gain(population, *_logits(population, rng)), population.kin)
                for _ in range(studies)
            ]
        )
    )


@lru_cache(maxsize=64)
def crossed_kinship_for(population: CrossedPopulation, effect: float) -> CrossedPopulation:
    """The population with the kinship (log-odds) that has a population effect (accuracy)."""

    def shortfall(kinship: float) -> float:
        return population_effect(replace(population, kinship=kinship), 60) - effect

    coarse = float(optimize.brentq(shortfall, -3.0, 3.0, xtol=1e-3))
    # The effect is almost proportional to kinship, so one step on the many studies is exact.
    found = replace(population, kinship=coarse)
    return replace(population, kinship=coarse * effect / population_effect(found))


def _logits(
    population: CrossedPopulation, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Log-odds before, [T], and after tuning on each source, [S, T]."""
    branch_T, kin_ST = population.target_branch, population.kin
    n_sources, n_targets = kin_ST.shape
    n_branches = branch_T[-1] + 1

    def correlated(correlation: float, *shape: int) -> FloatArray:
        """Standard normal deviates [..., T] that correlate within branches."""
        shared_F = rng.standard_normal((*shape, n_branches))
        own_T = rng.standard_normal((*shape, n_targets))
        mixed: FloatArray = (
            np.sqrt(correlation) * shared_F[..., branch_T] + np.sqrt(1 - correlation) * own_T
        )
        return mixed

    base_T = population.baseline + population.baseline_spread * correlated(
        population.family_correlation
    )
    gain_T = population.gain + population.gain_spread * correlated(population.family_correlation)
    strength_S1 = 1 + population.strength_spread * rng.standard_normal((n_sources, 1))
    adapter_ST = population.adapter_spread * correlated(population.adapter_correlation, n_sources)
    kinship_S1 = np.full((n_sources, 1), population.kinship)
    if population.kinship_spread:
        kinship_S1 += population.kinship_spread * rng.standard_normal((n_sources, 1))
    gain_ST = strength_S1 * gain_T + adapter_ST + kinship_S1 * kin_ST
    return base_T, base_T + gain_ST


def _answered(
    population: CrossedPopulation, logit: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Share of items answered correctly, of log-odds [..., I]."""
    chance = population.guess_rate + (1 - population.guess_rate) / (1 + np.exp(-logit))
    share: FloatArray = (rng.random(chance.shape) < chance).mean(axis=-1)
    return share


def _true_gain(
    population: CrossedPopulation, base_T: FloatArray, tuned_ST: FloatArray
) -> FloatArray:
    variance = (
        population.passage_spread**2 + population.item_spread**2 + population.interaction_spread**2
    )
    before, after = np.sqrt(variance), np.sqrt(variance + population.change_spread**2)
    return expected_accuracy(tuned_ST, after, population.guess_rate) - expected_accuracy(
        base_T, before, population.guess_rate
    )


def _centred(values_ST: FloatArray) -> FloatArray:
    """What remains of complete values beside means of sources and targets."""
    centred: FloatArray = (
        values_ST
        - values_ST.mean(axis=0)
        - values_ST.mean(axis=1, keepdims=True)
        + values_ST.mean()
    )
    return centred
