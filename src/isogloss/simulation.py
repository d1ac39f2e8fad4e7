"""Simulated studies whose truth is known, to judge tests and intervals by.

A chance of answering an item is `floor` + (`ceiling` - `floor`) * logistic(ability - difficulty).
Abilities belong to languages and models; difficulties to passages and items, which are the same in
all languages, as those of a translated task are. Everything is normal in log-odds, so population
values are sums over Gauss-Hermite nodes, with no error to speak of.

Shapes are suffixes: M models, S seeds, L languages, I items, P passages, Q nodes, K the scores of
three conditions (base, tuned, base with chain of thought), G groups (related, control).
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from isogloss.errors import ConfigError
from isogloss.paired import FloatArray

BoolArray = npt.NDArray[np.bool_]

# What to ask of `Population.slope`: weights over base, tuned and chain of thought.
BASE, TUNED_GAIN, THINKING_GAIN = (1.0, 0.0, 0.0), (-1.0, 1.0, 0.0), (-1.0, 0.0, 1.0)
INNER_NODES, OUTER_NODES = 31, 13


@dataclass(frozen=True)
class Design:
    """A study to simulate; means, spreads (standard deviations) and slopes are in log-odds.

    `baseline_gap` and `kinship` are what related languages have more than controls of baseline and
    of gain; `slope_spread` is that of true gains between languages, times `related_spread` among
    the related. Gains rise by `gain_on_baseline` for each unit of a language's baseline, and by
    `gain_on_model` for each of a model's. A language's own part of a gain correlates by
    `models_alike` between models, and tuned with chain-of-thought gains by `cot_correlation`, over
    languages and over models. `seed_spread` is of each language on its own.

    `item_condition_spread` is what an item has of its own in one condition, in all languages and
    models alike; `item_language_spread` what it has in one language, in all conditions and models
    alike. `kept` is the share of answers that do not depend on what tuning drew anew.
    """

    related: int = 4
    control: int = 12
    passages: int = 488
    items_per_passage: float = 900 / 488
    models: int = 1
    seeds: int = 1
    baseline: float = 0.0
    baseline_spread: float = 0.6
    baseline_gap: float = 0.0
    gain: float = 0.6
    gain_on_baseline: float = 0.0
    kinship: float = 0.0
    slope_spread: float = 0.25
    related_spread: float = 1.0
    seed_spread: float = 0.0
    cot_gain: float = 0.5
    cot_spread: float = 0.25
    cot_correlation: float = 0.5
    model_spread: float = 0.0
    model_gain_spread: float = 0.0
    gain_on_model: float = 0.0
    models_alike: float = 0.5
    passage_spread: float = 0.5
    item_spread: float = 0.8
    item_language_spread: float = 0.6
    item_condition_spread: float = 0.3
    kept: float = 0.5
    floor: float = 0.25
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        if min(self.related, self.control, self.passages, self.models, self.seeds) < 1:
            raise ConfigError(f"a design needs at least one of everything, but got {self}.")
        if not 0 <= self.floor < self.ceiling <= 1 or not 0 <= self.kept <= 1:
            raise ConfigError(
                f"`floor` < `ceiling` and `kept` are shares, but got {self.floor}, {self.ceiling} "
                f"and {self.kept}."
            )
        if self.items_per_passage < 1:
            raise ConfigError(
                f"`items_per_passage` is at least 1 but got {self.items_per_passage}."
            )

    @property
    def languages(self) -> int:
        """Related and control languages; the related come first."""
        return self.related + self.control

    @property
    def items(self) -> int:
        """Items a language."""
        return round(self.passages * self.items_per_passage)

    @property
    def difficulty_variance(self) -> float:
        """Variance of an item's difficulty for one language in one condition."""
        return (
            self.passage_spread**2
            + self.item_spread**2
            + self.item_language_spread**2
            + self.item_condition_spread**2
        )


@dataclass(frozen=True)
class Study:
    """One simulated study: what is seen, and what is true of its languages.

    `base_MLI`, `tuned_MSLI` and `cot_MLI` are correctness; `smooth_ML` is the mean gain in the log
    of an item's chance (over seeds), as the log-probability of the gold choice is. True accuracies
    are those with endless items. `models_M3` is what each model has of its own in baseline, tuned
    and chain-of-thought gain, `difficulty_KI` what an item has in all languages.
    """

    design: Design
    related_L: BoolArray
    passage_I: npt.NDArray[np.intp]
    base_MLI: BoolArray
    tuned_MSLI: BoolArray
    cot_MLI: BoolArray
    smooth_ML: FloatArray
    true_base_ML: FloatArray
    true_tuned_MSL: FloatArray
    true_cot_ML: FloatArray
    models_M3: FloatArray
    difficulty_KI: FloatArray


def simulate(design: Design, seed: int | tuple[int, ...]) -> Study:
    """Draw one study; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    n_models, n_languages, n_items = design.models, design.languages, design.items
    related_L = np.arange(n_languages) < design.related
    passage_I = np.arange(n_items) * design.passages // n_items

    models_M3 = rng.standard_normal((n_models, 3)) @ np.linalg.cholesky(_model_covariance(design)).T
    own_3L = rng.standard_normal((3, n_languages))
    own_3ML = math.sqrt(1 - design.models_alike) * rng.standard_normal((3, n_models, n_languages))
    own_3ML += math.sqrt(design.models_alike) * own_3L[:, None]
    base_ML, gain_ML, cot_ML = _abilities(
        design, models_M3.T[:, :, None], own_3L[0], own_3ML[1], own_3ML[2], related_L
    )
    tuned_MSL = (base_ML + gain_ML)[:, None] + design.seed_spread * rng.standard_normal(
        (n_models, design.seeds, n_languages)
    )
    thinking_ML = base_ML + cot_ML

    shared_I = design.passage_spread * rng.standard_normal(design.passages)[passage_I]
    shared_I += design.item_spread * rng.standard_normal(n_items)
    difficulty_KI = shared_I + design.item_condition_spread * rng.standard_normal((3, n_items))
    hard_LI = design.item_language_spread * rng.standard_normal(
        (n_languages, n_items), dtype=np.float32
    )
    of_base, of_tuned, of_cot = (each + hard_LI for each in difficulty_KI.astype(np.float32))

    base_MLI = np.empty((n_models, n_languages, n_items), dtype=bool)
    cot_MLI = np.empty_like(base_MLI)
    tuned_MSLI = np.empty((n_models, design.seeds, n_languages, n_items), dtype=bool)
    smooth_ML = np.zeros((n_models, n_languages))
    for m in range(n_models):
        luck_LI = rng.random((n_languages, n_items), dtype=np.float32)
        chance_LI = _chance(design, base_ML[m], of_base)
        base_MLI[m] = luck_LI < chance_LI
        smooth_ML[m] -= np.log(chance_LI).mean(axis=1)
        cot_MLI[m] = _again(design, luck_LI, rng) < _chance(design, thinking_ML[m], of_cot)
        for s in range(design.seeds):
            chance_LI = _chance(design, tuned_MSL[m, s], of_tuned)
            tuned_MSLI[m, s] = _again(design, luck_LI, rng) < chance_LI
            smooth_ML[m] += np.log(chance_LI).mean(axis=1) / design.seeds
    return Study(
        design=design,
        related_L=related_L,
        passage_I=passage_I,
        base_MLI=base_MLI,
        tuned_MSLI=tuned_MSLI,
        cot_MLI=cot_MLI,
        smooth_ML=smooth_ML,
        true_base_ML=accuracy(design, base_ML),
        true_tuned_MSL=accuracy(design, tuned_MSL),
        true_cot_ML=accuracy(design, thinking_ML),
        models_M3=models_M3,
        difficulty_KI=difficulty_KI,
    )


def accuracy(design: Design, ability: npt.ArrayLike, variance: float | None = None) -> FloatArray:
    """Expected accuracy at each `ability`, any shape, over difficulties of that variance.

    By default the variance is that of endless items; more of it averages over languages, seeds or
    models too.
    """
    node_Q, weight_Q = _nodes(INNER_NODES)
    spread = math.sqrt(design.difficulty_variance if variance is None else variance)
    solved = special.expit(np.asarray(ability, dtype=np.float64)[..., None] + spread * node_Q)
    found: FloatArray = design.floor + (design.ceiling - design.floor) * (solved @ weight_Q)
    return found


@dataclass(frozen=True)
class Population:
    """Means and covariances of true accuracy over units, with endless items and seeds.

    `mean_MGK` and `covariance_MGKK` are of base, tuned and chain-of-thought accuracy in each
    stratum (model) and group; `count_G` is how many units of a group a study has.
    """

    count_G: tuple[int, ...]
    mean_MGK: FloatArray
    covariance_MGKK: FloatArray

    @property
    def contrast(self) -> float:
        """Mean tuned gain of related units minus that of controls, on average over models."""
        return float(np.diff(self.mean_MGK.mean(axis=0) @ TUNED_GAIN)[0] * -1)

    @property
    def adjusted_contrast(self) -> float:
        """The contrast of mean gains over models at equal true baseline: what least squares fits.

        Of one model, or of several whose languages vary alike.
        """
        slope = self._within(TUNED_GAIN, BASE) / self._within(BASE, BASE)
        gap = float(np.diff(self.mean_MGK.mean(axis=0) @ BASE)[0] * -1)
        return self.contrast - slope * gap

    @property
    def difference(self) -> float:
        """Mean tuned minus mean chain-of-thought accuracy."""
        mean_K = np.average(self.mean_MGK.mean(axis=0), axis=0, weights=self.count_G)
        return float(mean_K[1] - mean_K[2])

    def slope(self, y: tuple[float, ...], x: tuple[float, ...]) -> float:
        """Least-squares slope of y on x over the units of a study, pooled over strata."""
        return self._products(y, x) / self._products(x, x)

    def correlation(self, y: tuple[float, ...], x: tuple[float, ...]) -> float:
        """Correlation of y with x over the units of a study, pooled over strata."""
        return self._products(y, x) / math.sqrt(self._products(x, x) * self._products(y, y))

    def spread(self, group: int = 1) -> float:
        """Standard deviation of true tuned gains among units of a group, 1 being controls."""
        covariance_KK = self.covariance_MGKK[:, group].mean(axis=0)
        return math.sqrt(float(np.array(TUNED_GAIN) @ covariance_KK @ np.array(TUNED_GAIN)))

    def _within(self, y: tuple[float, ...], x: tuple[float, ...]) -> float:
        """Expected sum of products within groups, on average over strata."""
        by_group_G = np.einsum("k,mgkj,j->g", y, self.covariance_MGKK, x) / len(self.mean_MGK)
        return float((np.array(self.count_G) - 1) @ by_group_G)

    def _products(self, y: tuple[float, ...], x: tuple[float, ...]) -> float:
        """Expected sum of products of y and x over units, centred over all units of a stratum."""
        count_G = np.array(self.count_G)
        n = count_G.sum()
        within_MG = np.einsum("k,mgkj,j->mg", y, self.covariance_MGKK, x)
        deviation_MGK = self.mean_MGK - np.average(
            self.mean_MGK, axis=1, weights=count_G, keepdims=True
        )
        between_MG = (deviation_MGK @ y) * (deviation_MGK @ x)
        return float(((within_MG * (1 - 1 / n) + between_MG) @ count_G).sum())


def population(design: Design, models_M3: FloatArray | None = None) -> Population:
    """Population of languages, in an average model or in each of the models given, [M, 3]."""
    models = np.zeros((1, 3)) if models_M3 is None else models_M3
    node_Q3, weight_Q = _nodes_3d()
    mean, covariance = [], []
    for model_3 in models:
        for related in (True, False):
            base_Q, gain_Q, cot_Q = _abilities(
                design, model_3, node_Q3[:, 0], node_Q3[:, 1], node_Q3[:, 2], np.array(related)
            )
            seeds = design.difficulty_variance + design.seed_spread**2
            scores_QK = np.stack(
                [
                    accuracy(design, base_Q),
                    accuracy(design, base_Q + gain_Q, seeds),
                    accuracy(design, base_Q + cot_Q),
                ],
                axis=1,
            )
            found = _moments(scores_QK, weight_Q)
            mean.append(found[0])
            covariance.append(found[1])
    shape = (len(models), 2)
    return Population(
        (design.related, design.control),
        np.array(mean).reshape(*shape, 3),
        np.array(covariance).reshape(*shape, 3, 3),
    )


def population_of_models(design: Design) -> Population:
    """Population of models, each with its mean over the languages of a study (one group)."""
    node_Q3, weight_Q = _nodes_3d()
    n_languages = design.languages
    # What of the languages' own gains differs between models and does not average out.
    own = (1 - design.models_alike) / n_languages
    tuned, cot = _gain_spread(design), design.cot_spread
    covariance_33 = _model_covariance(design)
    shared = design.cot_correlation * tuned * cot
    covariance_33[1:, 1:] += own * np.array([[tuned**2, shared], [shared, cot**2]])
    models_Q3 = node_Q3 @ np.linalg.cholesky(covariance_33).T
    scores_QK = np.zeros((len(models_Q3), 3))
    for count, related in ((design.related, 1.0), (design.control, 0.0)):
        base = design.baseline + design.baseline_gap * related + models_Q3[:, 0]
        gain = design.gain + design.kinship * related + models_Q3[:, 1]
        thinking = design.cot_gain + models_Q3[:, 2]
        together = (1 + design.gain_on_baseline) ** 2 * design.baseline_spread**2
        spread = design.slope_spread * (design.related_spread if related else 1.0)
        variances = (
            design.baseline_spread**2,
            together + spread**2 + design.seed_spread**2,
            together + design.cot_spread**2,
        )
        for k, ability in enumerate((base, base + gain, base + thinking)):
            variance = design.difficulty_variance + variances[k]
            scores_QK[:, k] += count / n_languages * accuracy(design, ability, variance)
    mean_K, covariance_KK = _moments(scores_QK, weight_Q)
    return Population((design.models,), mean_K[None, None], covariance_KK[None, None])


def difference_on_items(study: Study) -> float:
    """Mean tuned minus chain-of-thought accuracy over endless languages, on the study's items."""
    design, found = study.design, 0.0
    for count, related in ((design.related, True), (design.control, False)):
        spread = design.slope_spread * (design.related_spread if related else 1.0)
        own = design.item_language_spread**2
        own += (1 + design.gain_on_baseline) ** 2 * design.baseline_spread**2
        base_M = design.baseline + design.baseline_gap * related + study.models_M3[:, 0]
        tuned_M = base_M + design.gain + design.kinship * related + study.models_M3[:, 1]
        cot_M = base_M + design.cot_gain + study.models_M3[:, 2]
        tuned, cot = (
            float(accuracy(design, ability_M[:, None] + study.difficulty_KI[k], variance).mean())
            for k, ability_M, variance in (
                (1, tuned_M, own + spread**2 + design.seed_spread**2),
                (2, cot_M, own + design.cot_spread**2),
            )
        )
        found += count / design.languages * (tuned - cot)
    return found


def with_contrast(design: Design, contrast: float) -> Design:
    """The design with the kinship that makes the true contrast of accuracy gains `contrast`."""

    def missing(kinship: float) -> float:
        return population(replace(design, kinship=kinship)).contrast - contrast

    return replace(design, kinship=float(optimize.brentq(missing, -4.0, 6.0, xtol=1e-6)))


def without_slope(design: Design) -> Design:
    """The design with gains that have, over languages, no slope on baseline accuracy."""

    def slope(gain_on_baseline: float) -> float:
        changed = replace(design, gain_on_baseline=gain_on_baseline)
        return population(changed).slope(TUNED_GAIN, BASE)

    return replace(design, gain_on_baseline=float(optimize.brentq(slope, -0.9, 2.0, xtol=1e-6)))


def _abilities(
    design: Design,
    model_3: FloatArray,
    baseline: FloatArray,
    tuned: FloatArray,
    cot: FloatArray,
    related: BoolArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Baseline, tuned gain and chain-of-thought gain of languages, from standard normal parts."""
    own = design.baseline_spread * baseline
    r = design.cot_correlation
    spread = design.slope_spread * np.where(related, design.related_spread, 1.0)
    base: FloatArray = design.baseline + design.baseline_gap * related + own + model_3[0]
    headroom = design.gain_on_baseline * own
    gain: FloatArray = (
        design.gain + design.kinship * related + headroom + spread * tuned + model_3[1]
    )
    thinking: FloatArray = (
        design.cot_gain
        + headroom
        + design.cot_spread * (r * tuned + math.sqrt(1 - r**2) * cot)
        + model_3[2]
    )
    return base, gain, thinking


def _gain_spread(design: Design) -> float:
    """Spread of own gains, averaged over both groups."""
    related = design.related * design.related_spread**2 + design.control
    return design.slope_spread * math.sqrt(related / design.languages)


def _model_covariance(design: Design) -> FloatArray:
    """Covariance of what models have of their own: baseline, tuned and chain-of-thought gain."""
    base, gain, on = design.model_spread**2, design.model_gain_spread**2, design.gain_on_model
    own = on**2 * base
    together = own + design.cot_correlation * gain
    return np.array(
        [
            [base, on * base, on * base],
            [on * base, own + gain, together],
            [on * base, together, own + gain],
        ]
    ) + 1e-18 * np.eye(3)  # so that it has a root where models do not differ


def _chance(design: Design, ability_L: FloatArray, hard_LI: npt.NDArray[np.float32]) -> FloatArray:
    """Chance of a right answer, [L, I]."""
    solved_LI = special.expit(ability_L.astype(np.float32)[:, None] + hard_LI)
    found: FloatArray = design.floor + (design.ceiling - design.floor) * solved_LI
    return found


def _again(
    design: Design, luck_LI: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Luck of the same items in another condition: uniform, and the same in a share `kept`."""
    fresh_LI = rng.random(luck_LI.shape, dtype=np.float32)
    if design.kept == 1:
        return luck_LI
    return np.where(fresh_LI < design.kept, luck_LI, (fresh_LI - design.kept) / (1 - design.kept))


def _moments(scores_QK: FloatArray, weight_Q: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean_K = weight_Q @ scores_QK
    return mean_K, (weight_Q[:, None] * (scores_QK - mean_K)).T @ (scores_QK - mean_K)


@lru_cache(maxsize=4)
def _nodes(n: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of a standard normal variable, [Q] each."""
    node_Q, weight_Q = np.polynomial.hermite_e.hermegauss(n)
    return node_Q, weight_Q / weight_Q.sum()


@lru_cache(maxsize=1)
def _nodes_3d() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of three independent standard normal variables, [Q, 3] and [Q]."""
    node, weight = _nodes(OUTER_NODES)
    node_Q3 = np.stack(np.meshgrid(node, node, node, indexing="ij"), axis=-1).reshape(-1, 3)
    weight_Q: FloatArray = np.einsum("i,j,k->ijk", weight, weight, weight).reshape(-1)
    return node_Q3, weight_Q
