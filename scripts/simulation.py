"""Studies with known truth, to see whether tests reject and intervals cover as often as they say.

Shapes are suffixes: M models, S seeds, L languages (the related ones first), I items, P passages.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from isogloss.types import FloatArray

NODES = 31


@dataclass(frozen=True)
class Design:
    """A population of languages, models and items, in log-odds of a right answer before guessing.

    `baseline`, `gain` and `cot_gain` are means over languages; `baseline_spread`, `slope_spread`
    and `cot_spread` the standard deviations between languages; `kinship` is what relatives gain
    more, `weaker` by how much their baselines are lower, `unequal` the factor of their spread of
    gains. Models differ in ability by `model_spread`, and gain `headroom` less for each log-odd
    of ability. A language's gain from chain of thought follows its gain from tuning by
    `cot_follows`. Items are the same in all languages: difficulty has standard deviations
    `passage_noise` and `item_noise`, and what an item does in one language only is `own_noise`;
    `change_noise` is what tuning does to a passage in one language. Guessing gets `floor` right.
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
    slope_spread: float = 0.25
    kinship: float = 0.0
    weaker: float = 0.0
    unequal: float = 1.0
    seed_spread: float = 0.0
    model_spread: float = 0.7
    headroom: float = 0.0
    cot_gain: float = 0.5
    cot_follows: float = 0.8
    cot_spread: float = 0.1
    passage_noise: float = 0.7
    item_noise: float = 0.7
    own_noise: float = 0.5
    change_noise: float = 0.4
    floor: float = 0.25

    @property
    def is_related(self) -> npt.NDArray[np.bool_]:
        """Which languages are related, [L]."""
        return np.arange(self.related + self.control) < self.related


class Truth(NamedTuple):
    """True accuracies (over endless items): base, tuned (of these seeds) and with CoT, [M, L]."""

    base: FloatArray
    tuned: FloatArray
    thinking: FloatArray


class Study(NamedTuple):
    """Correctness, 0 or 1: `base` and `thinking` [M, L, I], `tuned` [M, S, L, I].

    `passages`, [I], is which passage an item is on.
    """

    base: FloatArray
    tuned: FloatArray
    thinking: FloatArray
    passages: npt.NDArray[np.intp]
    truth: Truth


class _Effects(NamedTuple):
    """Log-odds of languages: base and CoT [M, L], tuned [M, S, L]."""

    base: FloatArray
    tuned: FloatArray
    thinking: FloatArray


def simulate(design: Design, rng: np.random.Generator) -> Study:
    """One study of the design: new languages, models, seeds and items."""
    effects = _effects(design, design.is_related, rng)
    passage_I = np.arange(design.items) * design.passages // design.items
    n_languages = len(design.is_related)
    difficulty_I = design.passage_noise * rng.standard_normal(design.passages)[passage_I]
    difficulty_I = difficulty_I + design.item_noise * rng.standard_normal(design.items)
    own_LI = design.own_noise * rng.standard_normal((n_languages, design.items))
    shape = (2, n_languages, design.passages)
    change_CLI = design.change_noise * rng.standard_normal(shape)[:, :, passage_I]

    def answers(logit: FloatArray, noise_LI: FloatArray) -> FloatArray:
        odds = logit[..., None] - difficulty_I + noise_LI
        right = design.floor + (1 - design.floor) / (1 + np.exp(-odds))
        return (rng.random(right.shape) < right).astype(np.float64)

    return Study(
        base=answers(effects.base, own_LI),
        tuned=answers(effects.tuned, own_LI + change_CLI[0]),
        thinking=answers(effects.thinking, own_LI + change_CLI[1]),
        passages=passage_I,
        truth=_truth(design, effects),
    )


@lru_cache(maxsize=64)
def population_contrast(design: Design, languages: int = 40_000) -> float:
    """The mean gain in accuracy of all relatives there could be less that of all controls."""
    truth, related = _population(design, languages)
    gain_L = (truth.tuned - truth.base).mean(axis=0)
    return float(gain_L[related].mean() - gain_L[~related].mean())


@lru_cache(maxsize=64)
def population_slopes(design: Design, languages: int = 40_000) -> tuple[float, float]:
    """Least-squares slopes of true gain on true baseline, and on the true gain from CoT.

    Over all languages and models there could be, within models.
    """
    models = 1 if design.models == 1 else 400
    truth, _ = _population(replace(design, models=models), max(400, languages // models))
    base, tuned, thinking = (each - each.mean(axis=1, keepdims=True) for each in truth)
    gain, thought = tuned - base, thinking - base
    return (
        float((gain * base).sum() / (base**2).sum()),
        float((gain * thought).sum() / (thought**2).sum()),
    )


@lru_cache(maxsize=64)
def population_slopes_of_models(design: Design, models: int = 4_000) -> tuple[float, float]:
    """The same over all models there could be, of their means over languages."""
    rng = np.random.default_rng(7)
    wide = replace(design, models=models, seeds=1)
    truth = _truth(wide, _effects(wide, design.is_related, rng))
    base, tuned, thinking = (each.mean(axis=1) - each.mean() for each in truth)
    gain, thought = tuned - base, thinking - base
    return (
        float((gain * base).sum() / (base**2).sum()),
        float((gain * thought).sum() / (thought**2).sum()),
    )


def kinship_for(design: Design, contrast: float) -> Design:
    """The design with the kinship (log-odds) that gives a population contrast (accuracy)."""

    def missing(kinship: float) -> float:
        return population_contrast(replace(design, kinship=kinship), 8_000) - contrast

    return replace(design, kinship=float(optimize.brentq(missing, -3.0, 3.0, xtol=1e-4)))


def _population(design: Design, languages: int) -> tuple[Truth, npt.NDArray[np.bool_]]:
    """Truths of many languages, related ones in the design's share, and which are related."""
    rng = np.random.default_rng(11)
    share = design.related / (design.related + design.control)
    related = np.arange(languages) < share * languages
    effects = _effects(replace(design, seeds=1, seed_spread=0.0), related, rng)
    return _truth(design, effects), related


def _effects(
    design: Design, related_L: npt.NDArray[np.bool_], rng: np.random.Generator
) -> _Effects:
    n = len(related_L)
    ability_M1 = design.model_spread * rng.standard_normal((design.models, 1))
    if design.models == 1:
        ability_M1 = np.zeros((1, 1))
    base_ML = design.baseline + ability_M1 + design.baseline_spread * rng.standard_normal(n)
    base_ML = base_ML - design.weaker * related_L
    wide_L = np.where(related_L, design.unequal, 1.0)
    slope_L = design.slope_spread * wide_L * rng.standard_normal(n)
    gain_ML = design.gain + design.kinship * related_L - design.headroom * ability_M1 + slope_L
    seed_MSL = design.seed_spread * rng.standard_normal((design.models, design.seeds, n))
    thought_ML = (
        design.cot_gain
        + design.cot_follows * (slope_L - design.headroom * ability_M1)
        + design.cot_spread * rng.standard_normal((design.models, n))
    )
    return _Effects(
        base=base_ML,
        tuned=(base_ML + gain_ML)[:, None] + seed_MSL,
        thinking=base_ML + thought_ML,
    )


def _truth(design: Design, effects: _Effects) -> Truth:
    fixed = design.passage_noise**2 + design.item_noise**2 + design.own_noise**2
    moved = np.sqrt(fixed + design.change_noise**2)
    return Truth(
        base=_accuracy(design, effects.base, np.sqrt(fixed)),
        tuned=_accuracy(design, effects.tuned, moved).mean(axis=1),
        thinking=_accuracy(design, effects.thinking, moved),
    )


def _accuracy(design: Design, logit: FloatArray, noise: float) -> FloatArray:
    """Expected accuracy over items whose log-odds scatter by `noise` (Gauss and Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    right = 1 / (1 + np.exp(-(logit[..., None] + noise * nodes)))
    averaged: FloatArray = right @ weights / weights.sum()
    return design.floor + (1 - design.floor) * averaged
