"""What else could make relatives gain more, and what else gains go with.

The contrast adjusted for baseline, script and tokens; genealogical distance; a second source; gain
on baseline; gain from tuning on gain from chain of thought. Shapes are suffixes: K cells, L
languages, T languages in a contrast (related and control), P passages, M models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from isogloss.analysis.gains import (
    Question,
    are_related,
    cells_of,
    gain_by_language,
    in_contrast,
    sides_of,
)
from isogloss.analysis.score_matrix import Scores
from isogloss.errors import ComparisonError
from isogloss.languages import distance, group, language
from isogloss.stats.adjusted import (
    AdjustedContrast,
    freedman_lane,
    shared_noise,
    without_shared_noise,
)
from isogloss.stats.contrasts import Contrast, MeanTest, mean_test, relatedness_contrast
from isogloss.stats.slopes import Scatter, SlopeTest, exact_scatter, pooled, scatter, slope_test
from isogloss.types import FloatArray, Group

FEWEST_MODELS = 5  # for a slope over models


@dataclass(frozen=True)
class Adjustment:
    """The contrast with covariates held equal; `estimate` is None where that cannot be done."""

    covariates: tuple[str, ...]
    contrast: AdjustedContrast | None
    problem: str = ""


@dataclass(frozen=True)
class DistanceTest:
    """Gain against genealogical distance from the source, in [0, 1].

    `slope` is in gain per unit of distance; `rank` the same of ranks, whose correlation is
    Spearman's and whose p is the one to read, since depths of branches are uneven.
    """

    slope: SlopeTest
    rank: SlopeTest


@dataclass(frozen=True)
class ControlSource:
    """The double difference: what relatives of the source gain more from it than from `code`."""

    code: str
    name: str
    models: tuple[str, ...]
    related: tuple[str, ...]
    control: tuple[str, ...]
    contrast: Contrast


@dataclass(frozen=True)
class Relation:
    """A slope over `units`: languages within models, or models."""

    units: str
    test: SlopeTest
    intercept: float
    lowest: float
    highest: float

    def at(self, x: float) -> float:
        """Height of the cross-fitted line."""
        return self.intercept + self.test.slope * x


@dataclass(frozen=True)
class Together:
    """Gain from tuning beside gain from chain of thought, over the same units.

    `relation` has the gain from tuning as y; `given_baseline` is their partial correlation at equal
    base accuracy (cross-fitted); `difference` tests the mean of tuned minus base+cot accuracy.
    """

    relation: Relation
    given_baseline: float
    difference: MeanTest


class Shares:
    """Passages' shares in what languages (or models) score, [P, U] each; see `slopes.scatter`."""

    def __init__(self, weight: FloatArray, **values: FloatArray) -> None:
        self.weight, self.values = weight, values

    def over_languages(self) -> "Shares":
        """The same of the mean over languages, [P, 1]."""
        return Shares(
            self.weight.mean(axis=1, keepdims=True),
            **{name: each.mean(axis=1, keepdims=True) for name, each in self.values.items()},
        )

    @staticmethod
    def side_by_side(parts: Sequence["Shares"]) -> "Shares":
        """Several models as units beside one another."""
        return Shares(
            np.hstack([part.weight for part in parts]),
            **{name: np.hstack([part.values[name] for part in parts]) for name in parts[0].values},
        )


def adjustments(
    scores: Scores, models: Sequence[str], groups: Sequence[Group], question: Question
) -> tuple[Adjustment, ...]:
    """The contrast adjusted for baseline, script and tokens, each alone and all together.

    Script is whether it is the source's, tokens are the logarithm of tokens a word.
    """
    sides = sides_of(scores, models, question)
    tested, related_T = in_contrast(groups), are_related(groups)
    gain_T = gain_by_language(scores, sides)["accuracy"][tested]
    base_T = (sides.before @ scores.accuracy)[tested]
    codes = np.array(scores.languages)[tested]
    script = language(question.source).script
    known: dict[str, FloatArray] = {
        "baseline": base_T,
        "script": np.array([float(language(code).script == script) for code in codes]),
    }
    if scores.fertility is not None:
        name = "tokens per word" if scores.per_word else "tokens per item"
        known[name] = np.log(scores.fertility[tested])
    shares = _shares(scores, models, tested, question)
    noise = shared_noise(shares.values["before"], shares.values["gain"], shares.weight)
    found: list[Adjustment] = []
    for names in (*((name,) for name in known), ()):
        if not names:  # all that can be adjusted for
            names = tuple(each.covariates[0] for each in found if each.contrast is not None)
            if len(names) < 2:
                break
        covariates = {name: known[name] for name in names}
        try:
            y_T = gain_T
            if "baseline" in names:
                rest = [known[name] for name in names if name != "baseline"]
                y_T, covariates["baseline"] = without_shared_noise(
                    gain_T, base_T, np.column_stack([related_T, *rest]), *noise
                )
            contrast = freedman_lane(y_T, related_T, covariates, seed=question.seed)
            found.append(Adjustment(names, contrast))
        except ComparisonError as error:
            found.append(Adjustment(names, None, str(error)))
    return tuple(found)


def distance_test(
    scores: Scores, models: Sequence[str], groups: Sequence[Group], question: Question
) -> DistanceTest | None:
    """Gain against distance from the source; None if one of them is the same for all languages."""
    tested = in_contrast(groups)
    gain_T = gain_by_language(scores, sides_of(scores, models, question))["accuracy"][tested]
    codes = np.array(scores.languages)[tested]
    far_T = np.array([distance(question.source, code) for code in codes])
    if np.ptp(far_T) == 0 or np.ptp(gain_T) == 0:
        return None
    tests = []
    for far, gain in ((far_T, gain_T), (stats.rankdata(far_T), stats.rankdata(gain_T))):
        of = (exact_scatter(gain, far), exact_scatter(far, far), exact_scatter(gain, gain))
        tests.append(slope_test(*of, seed=question.seed, alike=True))
    return DistanceTest(*tests)


def control_sources(
    scores: Scores, models: Sequence[str], question: Question, left_out: list[str]
) -> tuple[ControlSource, ...]:
    """The double difference against each other source that models were tuned on too.

    Tuned accuracy after one source minus that after the other, so that the base and all that makes
    a language easy to improve cancel; relatives of the source against languages that are kin to
    neither.
    """
    found = []
    condition = question.condition
    others = sorted({cell.source for cell in scores.cells} - {"", question.source})
    for other in others if condition.startswith("tuned") else ():
        having = [model for model in models if cells_of(scores, model, condition, other)]
        if not having:
            continue
        weight_K = np.zeros(len(scores.cells))
        for model in having:
            for code, sign in ((question.source, 1), (other, -1)):
                cells = cells_of(scores, model, condition, code)
                weight_K[cells] = sign / len(cells) / len(having)
        difference_L = weight_K @ scores.accuracy
        places = [
            (group(code, question.source, question.branch), group(code, other))
            for code in scores.languages
        ]
        kept = np.array(
            [
                there == Group.CONTROL and here in (Group.RELATED, Group.CONTROL)
                for here, there in places
            ]
        )
        related = np.array([here == Group.RELATED for here, _ in places])[kept]
        codes = np.array(scores.languages)[kept]
        try:
            contrast = relatedness_contrast(
                difference_L[kept], related, question.margin, seed=question.seed
            )
        except ComparisonError as error:
            left_out.append(f"No double difference against {language(other).name}: {error}")
            continue
        found.append(
            ControlSource(
                code=other,
                name=language(other).name,
                models=tuple(having),
                related=tuple(map(str, codes[related])),
                control=tuple(map(str, codes[~related])),
                contrast=contrast,
            )
        )
    return tuple(found)


def weak_baselines(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    question: Question,
    left_out: list[str],
) -> tuple[Relation, ...]:
    """Gain on baseline: over languages within models, and over models if there are five."""
    tested = in_contrast(groups)
    shares = [_shares(scores, [model], tested, question) for model in models]
    return tuple(
        relation
        for relation, _ in _relations(shares, "before", "gain", "baseline", question, left_out)
    )


def together(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    question: Question,
    left_out: list[str],
) -> tuple[Together, ...]:
    """Gain from tuning on gain from chain of thought, of models that have all three conditions."""
    names = ("base", "tuned", "base+cot")
    having = [
        model
        for model in models
        if all(cells_of(scores, model, name, question.source) for name in names)
    ]
    if not having:
        return ()
    tested = in_contrast(groups)
    shares = []
    for model in having:
        tuned = _shares(scores, [model], tested, question, "base", "tuned")
        thinking = _shares(scores, [model], tested, question, "base", "base+cot")
        shares.append(
            Shares(
                tuned.weight,
                before=tuned.values["before"],
                tuned=tuned.values["gain"],
                thinking=thinking.values["gain"],
            )
        )
    found = []
    for relation, units in _relations(
        shares, "thinking", "tuned", "chain of thought", question, left_out
    ):
        differences = [
            (each.values["tuned"] - each.values["thinking"]).sum(axis=0) for each in units
        ]
        difference = mean_test(np.mean(differences, axis=0))
        found.append(Together(relation, _partial(units), difference))
    return tuple(found)


def _shares(
    scores: Scores,
    models: Sequence[str],
    tested: npt.NDArray[np.bool_],
    question: Question,
    against: str | None = None,
    condition: str | None = None,
) -> Shares:
    """Shares in accuracy `before` and in the `gain`, on average over models."""
    if against is not None:
        question = replace(question, against=against)
    sides = sides_of(scores, models, question, condition)
    count_PT = scores.counts[:, tested]
    n_T = count_PT.sum(axis=0)
    before_PT, after_PT = (
        scores.by_passage(side @ scores.correct)[:, tested] for side in (sides.before, sides.after)
    )
    return Shares(count_PT / n_T, before=before_PT / n_T, gain=(after_PT - before_PT) / n_T)


def _relations(
    shares: Sequence[Shares],
    x: str,
    y: str,
    what: str,
    question: Question,
    left_out: list[str],
) -> Iterator[tuple[Relation, Sequence[Shares]]]:
    """Slopes of y on x, over languages within models and over models, with their units' shares."""
    levels = {"languages" if len(shares) == 1 else "languages within models": list(shares)}
    if len(shares) >= FEWEST_MODELS:
        levels["models"] = [Shares.side_by_side([each.over_languages() for each in shares])]
    for name, units in levels.items():
        try:
            test = slope_test(
                _scatter(units, y, x),
                _scatter(units, x, x),
                _scatter(units, y, y),
                seed=question.seed,
            )
        except ComparisonError as error:
            left_out.append(f"No slope on {what} over {name}: {error}")
            continue
        all_x, all_y = (
            np.concatenate([each.values[key].sum(axis=0) for each in units]) for key in (x, y)
        )
        intercept = float(all_y.mean() - test.slope * all_x.mean())
        yield Relation(name, test, intercept, float(all_x.min()), float(all_x.max())), units


def _scatter(units: Sequence[Shares], left: str, right: str) -> Scatter:
    return pooled([scatter(each.values[left], each.values[right], each.weight) for each in units])


def _partial(units: Sequence[Shares]) -> float:
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
