"""Simulated studies with a known truth, to count how often tests reject and intervals cover.

Shapes are suffixes: M models, S seeds, L languages (the related ones first), I items, P passages.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from isogloss.types import BoolArray, FloatArray

NODES = 31


@dataclass(frozen=True)
class Design:
    """A population of languages, models and items, in log-odds of a correct answer before guessing.

    `baseline`, `gain` and `cot_gain` are means over languages; `baseline_spread`, `gain_spread` and
    `cot_spread` are standard deviations between languages. Related languages gain `kinship` more,
    have baselines lower by `related_deficit`, and a spread of gains `related_spread_factor` times
    as large. Models differ in ability with standard deviation `model_spread`, and gain
    `ability_discount` less per log-odds of ability. The gain from chain of thought of a language
    follows its gain from tuning with slope `cot_slope`.

    Items are the same in all languages. Their difficulty has standard deviations `passage_spread`
    and `item_spread`; an item's effect in one language only has `interaction_spread`, the effect of
    tuning on a passage in one language `change_spread`. Guessing is correct with probability
    `guess_rate`.
    """

    related: int = 4
    control: int = 12
    items: int = 900
    passages: int = 488
    models: int = 1
    seeds: int = 1
    baseline: float = -0.3
    baseline_spread: float = 0.5
    gain: float = 0.8
    gain_spread: float = 0.25
    kinship: float = 0.0
    related_deficit: float = 0.0
    related_spread_factor: float = 1.0
    seed_spread: float = 0.0
    model_spread: float = 0.7
    ability_discount: float = 0.0
    cot_gain: float = 0.5
    cot_slope: float = 0.8
    cot_spread: float = 0.1
    passage_spread: float = 0.7
    item_spread: float = 0.7
    interaction_spread: float = 0.5
    change_spread: float = 0.4
    guess_rate: float = 0.25

    @property
    def is_related(self) -> BoolArray:
        """Which languages are related, [L]."""
        return np.arange(self.related + self.control) < self.related


class Truth(NamedTuple):
    """Expected accuracies over all possible items, [M, L]: base, tuned (with these seeds), CoT."""

    base: FloatArray
    tuned: FloatArray
    cot: FloatArray


class Study(NamedTuple):
    """Correctness, 0 or 1: `base` and `cot` [M, L, I], `tuned` [M, S, L, I].

    `passages`, [I], is the passage of each item.
    """

    base: FloatArray
    tuned: FloatArray
    cot: FloatArray
    passages: npt.NDArray[np.intp]
    truth: Truth


class _Effects(NamedTuple):
    """Log-odds of languages: base and CoT [M, L], tuned [M, S, L]."""

    base: FloatArray
    tuned: FloatArray
    cot: FloatArray


def simulate(design: Design, rng: np.random.Generator) -> Study:
    """One study of the design: new languages, models, seeds and items."""
    effects = _effects(design, design.is_related, rng)
    passage_I = np.arange(design.items) * design.passages // design.items
    n_languages = len(design.is_related)
    difficulty_I = design.passage_spread * rng.standard_normal(design.passages)[passage_I]
    difficulty_I = difficulty_I + design.item_spread * rng.standard_normal(design.items)
    interaction_LI = design.interaction_spread * rng.standard_normal((n_languages, design.items))
    shape = (2, n_languages, design.passages)
    tuning_LI, cot_LI = design.change_spread * rng.standard_normal(shape)[:, :, passage_I]

    def answers(logit: FloatArray, noise_LI: FloatArray) -> FloatArray:
        odds = logit[..., None] - difficulty_I + noise_LI
        chance = design.guess_rate + (1 - design.guess_rate) / (1 + np.exp(-odds))
        return (rng.random(chance.shape) < chance).astype(np.float64)

    return Study(
        base=answers(effects.base, interaction_LI),
        tuned=answers(effects.tuned, interaction_LI + tuning_LI),
        cot=answers(effects.cot, interaction_LI + cot_LI),
        passages=passage_I,
        truth=_truth(design, effects),
    )


@lru_cache(maxsize=64)
def population_contrast(design: Design, languages: int = 40_000) -> float:
    """Expected gain in accuracy of a related language minus that of a control."""
    truth, related_L = _population(design, languages)
    gain_L = (truth.tuned - truth.base).mean(axis=0)
    return float(gain_L[related_L].mean() - gain_L[~related_L].mean())


@lru_cache(maxsize=64)
def population_slopes(design: Design, languages: int = 40_000) -> tuple[float, float]:
    """Least-squares slopes within models of true gain on true baseline, and on true gain from CoT.

    Over many languages and, unless the design has a single model, 400 models.
    """
    models = 1 if design.models == 1 else 400
    truth, _ = _population(replace(design, models=models), max(400, languages // models))
    return _slopes(*(accuracy - accuracy.mean(axis=1, keepdims=True) for accuracy in truth))


@lru_cache(maxsize=64)
def population_slopes_of_models(design: Design, models: int = 4_000) -> tuple[float, float]:
    """The same slopes over many models, of their means over languages."""
    rng = np.random.default_rng(7)
    many = replace(design, models=models, seeds=1)
    truth = _truth(many, _effects(many, design.is_related, rng))
    return _slopes(*(accuracy.mean(axis=1) - accuracy.mean() for accuracy in truth))


def _slopes(base: FloatArray, tuned: FloatArray, cot: FloatArray) -> tuple[float, float]:
    """Slopes of the gain on the baseline and on the gain from CoT, of centred accuracies."""
    gain, cot_gain = tuned - base, cot - base
    return (
        float((gain * base).sum() / (base**2).sum()),
        float((gain * cot_gain).sum() / (cot_gain**2).sum()),
    )


def kinship_for(design: Design, contrast: float) -> Design:
    """The design with the kinship (log-odds) that gives a population contrast (accuracy)."""

    def shortfall(kinship: float) -> float:
        return population_contrast(replace(design, kinship=kinship), 8_000) - contrast

    return replace(design, kinship=float(optimize.brentq(shortfall, -3.0, 3.0, xtol=1e-4)))


def _population(design: Design, languages: int) -> tuple[Truth, BoolArray]:
    """Truths of many languages, and which are related, in the proportion of the design."""
    rng = np.random.default_rng(11)
    share = design.related / (design.related + design.control)
    related_L = np.arange(languages) < share * languages
    effects = _effects(replace(design, seeds=1, seed_spread=0.0), related_L, rng)
    return _truth(design, effects), related_L


def _effects(design: Design, related_L: BoolArray, rng: np.random.Generator) -> _Effects:
    n = len(related_L)
    ability_M1 = design.model_spread * rng.standard_normal((design.models, 1))
    if design.models == 1:
        ability_M1 = np.zeros((1, 1))
    base_ML = design.baseline + ability_M1 + design.baseline_spread * rng.standard_normal(n)
    base_ML = base_ML - design.related_deficit * related_L
    factor_L = np.where(related_L, design.related_spread_factor, 1.0)
    deviation_L = design.gain_spread * factor_L * rng.standard_normal(n)
    discount_M1 = design.ability_discount * ability_M1
    gain_ML = design.gain + design.kinship * related_L - discount_M1 + deviation_L
    seed_MSL = design.seed_spread * rng.standard_normal((design.models, design.seeds, n))
    cot_gain_ML = (
        design.cot_gain
        + design.cot_slope * (deviation_L - discount_M1)
        + design.cot_spread * rng.standard_normal((design.models, n))
    )
    return _Effects(
        base=base_ML,
        tuned=(base_ML + gain_ML)[:, None] + seed_MSL,
        cot=base_ML + cot_gain_ML,
    )


def _truth(design: Design, effects: _Effects) -> Truth:
    variance = design.passage_spread**2 + design.item_spread**2 + design.interaction_spread**2
    before, after = np.sqrt(variance), np.sqrt(variance + design.change_spread**2)
    return Truth(
        base=expected_accuracy(effects.base, before, design.guess_rate),
        tuned=expected_accuracy(effects.tuned, after, design.guess_rate).mean(axis=1),
        cot=expected_accuracy(effects.cot, after, design.guess_rate),
    )


def expected_accuracy(logit: FloatArray, spread: float, guess_rate: float) -> FloatArray:
    """Expected accuracy over items whose log-odds have that spread (Gauss-Hermite quadrature)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    chance = 1 / (1 + np.exp(-(logit[..., None] + spread * nodes)))
    mean: FloatArray = chance @ weights / weights.sum()
    return guess_rate + (1 - guess_rate) * mean
