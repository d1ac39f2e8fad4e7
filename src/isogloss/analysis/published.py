"""The published analysis of arXiv:2606.19346 on the same data, and where it disagrees with ours.

As summaries of the study describe it (its full text was not at hand): McNemar intervals for each
language, and a least-squares regression of the gain on baseline accuracy and on whether the
language is related, over models and languages. It takes languages and items as independent units,
and the baseline is on both sides of the regression.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import ConditionGains, LanguageGain
from isogloss.errors import ComparisonError
from isogloss.stats.permutation import ALPHA
from isogloss.stats.regression import Coefficient, LeastSquares, least_squares
from isogloss.stats.slopes import SlopeTest
from isogloss.types import Group, Interval, Verdict

BASELINE, RELATED = "baseline", "related"  # columns of the regression


class Finding(StrEnum):
    """What an analysis finds of a difference or slope.

    `none` is a difference read as absent: not significant in the published analysis, within the
    margin in ours. `open` is one that ours shows neither.
    """

    POSITIVE = "positive"
    NEGATIVE = "negative"
    NONE = "none"
    OPEN = "open"


class Agreement(StrEnum):
    """Whether the published finding and ours agree.

    `in part`: neither finds a difference, but ours does not take that as its absence; or both find
    one, but ours shows that it is within the margin; or some languages differ.
    """

    AGREE = "agree"
    IN_PART = "in part"
    DISAGREE = "disagree"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Beside:
    """A published finding beside ours; None where an analysis could not be made."""

    published: Finding | None
    ours: Finding | None
    agreement: Agreement


class OurKinship(NamedTuple):
    """What the published effect of relatedness is compared with.

    The effect over all sources where it carries the verdict, else the single-source contrast, which
    is described only.
    """

    estimate: float
    interval_95: Interval
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class GainBeside:
    """The gain of one language of one model: by McNemar's interval, and by our adjusted p."""

    model: str
    row: LanguageGain
    published: Finding
    ours: Finding

    @property
    def agreement(self) -> Agreement:
        """Whether both find a gain, both a loss, or neither of them."""
        neither = (self.published, self.ours) == (Finding.NONE, Finding.OPEN)
        agree = neither or self.published == self.ours
        return Agreement.AGREE if agree else Agreement.DISAGREE


@dataclass(frozen=True)
class PublishedAnalysis:
    """The published analysis beside ours.

    `regression` has the coefficients `BASELINE` and `RELATED`, over related and control languages
    of each model; where it cannot be fitted it is None and `problem` says why. `kinship` is on C1,
    with the numbers `our_kinship` for ours, `baseline` on C2.
    """

    gains: tuple[GainBeside, ...]
    regression: LeastSquares | None
    problem: str
    kinship: Beside
    our_kinship: OurKinship
    baseline: Beside

    @property
    def differing(self) -> list[GainBeside]:
        """The gains that one analysis finds significant and the other does not."""
        return [gain for gain in self.gains if gain.agreement != Agreement.AGREE]

    @property
    def gains_agreement(self) -> Agreement:
        """Whether both analyses find the same gains and losses."""
        return Agreement.IN_PART if self.differing else Agreement.AGREE


def published_analysis(comparison: Comparison) -> PublishedAnalysis:
    """The published analysis of the compared condition, beside ours."""
    regression, problem = None, ""
    try:
        regression = _regression(comparison.models)
    except ComparisonError as error:
        problem = str(error)
    slopes = comparison.baseline_slopes
    return PublishedAnalysis(
        gains=tuple(
            _gain_beside(model.label, row) for model in comparison.models for row in model.languages
        ),
        regression=regression,
        problem=problem,
        kinship=_kinship_beside(_coefficient_finding(regression, RELATED), comparison),
        our_kinship=our_kinship(comparison),
        baseline=_baseline_beside(
            _coefficient_finding(regression, BASELINE), slopes[-1].test if slopes else None
        ),
    )


def _regression(models: Sequence[ConditionGains]) -> LeastSquares:
    """Gain on baseline and relatedness; a related or control language of a model is a unit."""
    rows = [
        row
        for model in models
        for row in model.languages
        if row.group in (Group.RELATED, Group.CONTROL)
    ]
    return least_squares(
        [row.gain for row in rows],
        {
            BASELINE: [row.before for row in rows],
            RELATED: [float(row.group == Group.RELATED) for row in rows],
        },
    )


def _coefficient_finding(regression: LeastSquares | None, name: str) -> Finding | None:
    """As published: what is not significant is read as absent."""
    if regression is None:
        return None
    coefficient: Coefficient = regression.coefficients[name]
    if coefficient.p > ALPHA:
        return Finding.NONE
    return Finding.POSITIVE if coefficient.estimate > 0 else Finding.NEGATIVE


def our_kinship(comparison: Comparison) -> OurKinship:
    """The analysis of kinship that the published one is compared with."""
    if crossed := comparison.decisive:
        effect = crossed.overall
        return OurKinship(effect.estimate, effect.interval_95, effect.p, effect.verdict)
    contrast = comparison.contrast
    test = contrast.permutation
    return OurKinship(contrast.estimate, test.interval_95, test.p, contrast.verdict)


def _kinship_beside(published: Finding | None, comparison: Comparison) -> Beside:
    """C1; ours has no finding where the crossed design finds nothing to compare."""
    if comparison.decisive and claim_verdicts(comparison).obstacle:
        return Beside(published, None, Agreement.NOT_COMPARABLE)
    own = our_kinship(comparison)
    ours = {
        Verdict.EQUIVALENT: Finding.NONE,
        Verdict.RELATED_GAIN_MORE: Finding.POSITIVE,
        Verdict.RELATED_GAIN_LESS: Finding.NEGATIVE,
        Verdict.INCONCLUSIVE: Finding.OPEN,
    }[own.verdict]
    detectable = _sign(own.interval_95)
    if ours == Finding.NONE and detectable is not None and published == detectable:
        return Beside(published, ours, Agreement.IN_PART)
    return Beside(published, ours, _agreement(published, ours))


def _baseline_beside(published: Finding | None, test: SlopeTest | None) -> Beside:
    ours = None
    if test is not None:
        ours = (_sign(test.interval) if test.bounded else None) or Finding.OPEN
    return Beside(published, ours, _agreement(published, ours))


def _gain_beside(model: str, row: LanguageGain) -> GainBeside:
    published = _sign(Interval(row.mcnemar_low, row.mcnemar_high)) or Finding.NONE
    ours = Finding.OPEN
    if row.holm_p <= ALPHA and row.gain:
        ours = Finding.POSITIVE if row.gain > 0 else Finding.NEGATIVE
    return GainBeside(model, row, published, ours)


def _agreement(published: Finding | None, ours: Finding | None) -> Agreement:
    if published is None or ours is None:
        return Agreement.NOT_COMPARABLE
    if published == ours:
        return Agreement.AGREE
    neither = published == Finding.NONE and ours == Finding.OPEN
    return Agreement.IN_PART if neither else Agreement.DISAGREE


def _sign(interval: Interval) -> Finding | None:
    """The side of zero that an interval lies on; None where it contains zero or is undefined."""
    if math.isnan(interval.low) or not interval.excludes(0.0):
        return None
    return Finding.POSITIVE if interval.low > 0 else Finding.NEGATIVE
