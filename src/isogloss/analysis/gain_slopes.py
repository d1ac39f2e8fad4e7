"""Slopes of gains: on baseline accuracy, and on the gain from chain of thought.

Shapes are suffixes: T languages in a contrast (related and control), P passages, U units.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.gains import ComparisonSpec, in_contrast, runs_matching
from isogloss.analysis.passage_shares import PassageShares, passage_shares
from isogloss.analysis.score_matrix import Scores
from isogloss.errors import ComparisonError
from isogloss.stats.slopes import Scatter, SlopeTest, pool_scatters, scatter, slope_test
from isogloss.stats.t_tests import MeanTest, mean_test
from isogloss.types import Group

FEWEST_MODELS = 5  # for a slope over models


@dataclass(frozen=True)
class GainSlope:
    """A slope over `units`: languages within models, or models."""

    units: str
    test: SlopeTest
    intercept: float
    x_min: float
    x_max: float

    def predict(self, x: float) -> float:
        """Height of the cross-fitted line."""
        return self.intercept + self.test.slope * x


@dataclass(frozen=True)
class GainAgreement:
    """Gain from tuning beside gain from chain of thought, over the same units.

    `slope` has the gain from tuning as y; `partial_correlation` is their partial correlation
    at equal base accuracy (cross-fitted); `difference` tests the mean of tuned minus base+cot
    accuracy.
    """

    slope: GainSlope
    partial_correlation: float
    difference: MeanTest


def baseline_slopes(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    spec: ComparisonSpec,
    left_out: list[str],
) -> tuple[GainSlope, ...]:
    """Gain on baseline: over languages within models, and over models if there are five."""
    tested = in_contrast(groups)
    shares = [passage_shares(scores, [model], tested, spec) for model in models]
    return tuple(
        relation for relation, _ in _relations(shares, "before", "gain", "baseline", spec, left_out)
    )


def gain_agreements(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    spec: ComparisonSpec,
    left_out: list[str],
) -> tuple[GainAgreement, ...]:
    """Gain from tuning on gain from chain of thought, of models that have all three conditions."""
    names = ("base", "tuned", "base+cot")
    having = [
        model
        for model in models
        if all(runs_matching(scores, model, name, spec.source) for name in names)
    ]
    if not having:
        return ()
    tested = in_contrast(groups)
    shares = []
    for model in having:
        tuned = passage_shares(scores, [model], tested, spec, "base", "tuned")
        thinking = passage_shares(scores, [model], tested, spec, "base", "base+cot")
        shares.append(
            PassageShares(
                tuned.weight,
                before=tuned.values["before"],
                tuned=tuned.values["gain"],
                thinking=thinking.values["gain"],
            )
        )
    found = []
    for relation, units in _relations(
        shares, "thinking", "tuned", "chain of thought", spec, left_out
    ):
        differences = [
            (each.values["tuned"] - each.values["thinking"]).sum(axis=0) for each in units
        ]
        difference = mean_test(np.mean(differences, axis=0))
        found.append(GainAgreement(relation, _partial(units), difference))
    return tuple(found)


def _relations(
    shares: Sequence[PassageShares],
    x: str,
    y: str,
    what: str,
    spec: ComparisonSpec,
    left_out: list[str],
) -> Iterator[tuple[GainSlope, Sequence[PassageShares]]]:
    """Slopes of y on x, over languages within models and over models, with their units' shares."""
    levels = {"languages" if len(shares) == 1 else "languages within models": list(shares)}
    if len(shares) >= FEWEST_MODELS:
        levels["models"] = [PassageShares.side_by_side([each.over_languages() for each in shares])]
    for name, units in levels.items():
        try:
            test = slope_test(
                _scatter(units, y, x),
                _scatter(units, x, x),
                _scatter(units, y, y),
                seed=spec.seed,
            )
        except ComparisonError as error:
            left_out.append(f"No slope on {what} over {name}: {error}")
            continue
        all_x, all_y = (
            np.concatenate([each.values[key].sum(axis=0) for each in units]) for key in (x, y)
        )
        intercept = float(all_y.mean() - test.slope * all_x.mean())
        yield GainSlope(name, test, intercept, float(all_x.min()), float(all_x.max())), units


def _scatter(units: Sequence[PassageShares], left: str, right: str) -> Scatter:
    return pool_scatters(
        [scatter(each.values[left], each.values[right], each.weight) for each in units]
    )


def _partial(units: Sequence[PassageShares]) -> float:
    """Cross-fitted partial correlation of both gains given the baseline; NaN where undefined."""
    names = ("tuned", "thinking", "before")
    products = np.array(
        [
            [float(np.trace(_scatter(units, left, right).crossfitted)) for right in names]
            for left in names
        ]
    )
    if products[2, 2] <= 0:
        return math.nan
    rest = products[:2, :2] - np.outer(products[:2, 2], products[2, :2]) / products[2, 2]
    if min(rest[0, 0], rest[1, 1]) <= 0:
        return math.nan
    return float(np.clip(rest[0, 1] / math.sqrt(rest[0, 0] * rest[1, 1]), -1, 1))
