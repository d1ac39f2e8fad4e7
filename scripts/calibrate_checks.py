"""Rows of calibration.csv about gates, levels of several models, and checks of one source.

`python -m scripts.calibrate` runs these studies too. Shapes are suffixes: M models, L languages,
P passages, T targets, U units.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from isogloss.analysis.claims import ClaimVerdict, level_verdict
from isogloss.analysis.gain_slopes import ModelLevel
from isogloss.analysis.learning import Learning
from isogloss.stats.paired import holm
from isogloss.stats.permutation import ALPHA, permutation_test
from isogloss.stats.two_way import TwoWayMean, two_way_mean
from isogloss.types import FloatArray
from scripts.calibrate_crossed import gather
from scripts.crossed_simulation import CrossedPopulation, simulate_crossed
from scripts.simulation import Design, Study, simulate

MARGIN, CHANCE = 0.03, 0.25
STUDIES_PER_TASK = 25
SMALL = Design(items=200, passages=108)
GATES = {
    "gain of 11 points": SMALL,
    "nothing learnt": replace(SMALL, gain=0.0, gain_spread=0.0),
    "everyone at chance": replace(SMALL, baseline=-9.0, baseline_spread=0.1),
    "everyone at the ceiling": replace(SMALL, baseline=7.0, baseline_spread=0.1, gain_spread=0.0),
}
# Models of one ability, whose mean gains from tuning and from chain of thought differ by a number
# of points.
EQUAL = replace(
    SMALL, models=6, model_spread=0.0, gain=0.8, cot_gain=0.8044, cot_slope=1.0, cot_spread=0.2
)
LEVELS = {
    "six models, two gains equal": EQUAL,
    "six models, two gains apart by 3 points": replace(EQUAL, cot_gain=0.5864),
    "six models, two gains apart by 10 points": replace(EQUAL, cot_gain=0.0861),
}
# One source with three relatives, and 39 other branches or families of three languages.
CHECKS = {
    f"40 branches, correlation {correlation:g}": CrossedPopulation(
        relatives=(3,) * 40, sources=1, family_correlation=correlation
    )
    for correlation in (0.0, 0.3, 0.5, 0.8)
}
TARGETS = {
    "checks reject": (0.0, 0.07),
    "some model has a verdict": (0.0, 0.07),
    "some model is called equal": (0.0, 0.05),
    "nothing to compare": (0.93, 1.0),
}

Key = tuple[str, str]
Quantities = Iterator[tuple[Key, float]]


class CheckTask(NamedTuple):
    """Some studies of a setting of `GATES`, `LEVELS` or `CHECKS`."""

    setting: str
    number: int
    studies: int


def run_checks(studies: int, jobs: int) -> dict[tuple[str, str, str], list[float]]:
    """Values of every quantity by (setting, kind, name), one per study."""
    tasks = [
        CheckTask(name, number, min(STUDIES_PER_TASK, studies))
        for settings, share in ((GATES, 0.5), (LEVELS, 0.25), (CHECKS, 1.0))
        for name in settings
        for number in range(max(1, round(studies * share / STUDIES_PER_TASK)))
    ]
    return gather(run_task, tasks, jobs, lambda task: task.setting)


def run_task(task: CheckTask) -> dict[Key, list[float]]:
    """Values of every quantity in some studies, one per study."""
    rng = np.random.default_rng((zlib.crc32(task.setting.encode()), task.number))
    values: dict[Key, list[float]] = defaultdict(list)
    for _ in range(task.studies):
        if task.setting in CHECKS:
            measured = _checks(CHECKS[task.setting], rng)
        elif task.setting in GATES:
            measured = _gates(simulate(GATES[task.setting], rng))
        else:
            measured = _levels(task.setting, simulate(LEVELS[task.setting], rng))
        for key, value in measured:
            values[key].append(float(value))
    return dict(values)


def _gates(study: Study) -> Quantities:
    """Whether there is nothing to compare, of the mean gain over languages."""
    obstacle = _learning(study, 0, study.tuned.mean(axis=1)[0]).obstacle(CHANCE, MARGIN)
    yield ("gates", "nothing to compare"), obstacle is not None


def _levels(setting: str, study: Study) -> Quantities:
    """Verdicts of six models on whether tuning gains as much as chain of thought, with Holm."""
    n_models = len(study.base)
    tuned_MLI = study.tuned.mean(axis=1)
    differences = [_mean(study, tuned_MLI[m] - study.cot[m]) for m in range(n_models)]
    holm_p = holm([difference.p for difference in differences])
    holm_p_within = holm([difference.p_within(MARGIN) for difference in differences])
    verdicts = [
        level_verdict(
            ModelLevel(
                _learning(study, m, tuned_MLI[m]),
                _learning(study, m, study.cot[m]),
                differences[m],
                float(holm_p[m]),
                float(holm_p_within[m]),
            ),
            CHANCE,
            MARGIN,
            n_models,
        )
        for m in range(n_models)
    ]
    unequal = (ClaimVerdict.TUNING_GAINS_MORE, ClaimVerdict.COT_GAINS_MORE)
    if "equal" in setting:
        yield ("levels", "some model has a verdict"), any(each in unequal for each in verdicts)
    elif "3 points" in setting:
        some = any(each == ClaimVerdict.EQUALLY_LARGE for each in verdicts)
        yield ("levels", "some model is called equal"), some
    else:
        share = sum(each in unequal for each in verdicts) / n_models
        yield ("levels", "power, of a model"), share


def _checks(population: CrossedPopulation, rng: np.random.Generator) -> Quantities:
    """The contrast of a source without an effect of kinship, by three tests."""
    gain_T, related_T = simulate_crossed(population, rng).gain[0], population.kin[0]
    gain_UR = gain_T.reshape(len(population.relatives), -1)
    gain_U, related_U = gain_UR.mean(axis=1), related_T[:: gain_UR.shape[1]]
    # With branches of one size the contrast of each is largest where its mean is most unusual.
    distance_U = np.abs(gain_U - gain_U.mean())
    rank = (distance_U >= distance_U[0] * (1 - 1e-9)).sum()
    languages = permutation_test(gain_T, related_T, relabellings=9_999)
    yield ("checks reject", "languages permuted"), languages.p <= ALPHA
    yield ("checks reject", "families permuted"), permutation_test(gain_U, related_U).p <= ALPHA
    yield ("checks reject", "rank among branches"), rank / len(gain_U) <= ALPHA


def _learning(study: Study, model: int, after_LI: FloatArray) -> Learning:
    before_LI = study.base[model]
    return Learning(
        f"model {model}",
        before=_mean(study, before_LI),
        after=_mean(study, after_LI),
        gain=_mean(study, after_LI - before_LI),
    )


def _mean(study: Study, value_LI: FloatArray) -> TwoWayMean:
    """The mean over languages and items, clustered by both."""
    start_P = np.flatnonzero(np.diff(study.passages, prepend=-1))
    n = len(study.passages)
    share_PL = np.add.reduceat(value_LI, start_P, axis=1).T / n
    weight_PL = np.add.reduceat(np.ones_like(value_LI), start_P, axis=1).T / n
    return two_way_mean(share_PL, weight_PL)


def summarise_checks(
    by_quantity: Mapping[tuple[str, str, str], Sequence[float]],
) -> Iterator[dict[str, object]]:
    """One row per quantity: value, Monte Carlo standard error, and whether it is in range."""
    for (setting, kind, name), numbers in by_quantity.items():
        value = float(np.mean(numbers))
        low, high = TARGETS.get(kind, TARGETS.get(name, (-np.inf, np.inf)))
        if kind == "gates" and setting == next(iter(GATES)):
            low, high = 0.0, 0.05
        yield {
            "design": setting,
            "sound": True,
            "kind": kind,
            "name": name,
            "value": value,
            "error": float(np.std(numbers) / np.sqrt(len(numbers))),
            "n": len(numbers),
            "in_range": low <= value <= high,
        }
