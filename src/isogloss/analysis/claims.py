"""Verdicts on the three claims of arXiv:2606.19346.

C1: related languages gain no more than controls. C2: weak baselines gain much in every language,
whatever the family, and strong ones little. C3: what gains from fine-tuning gains as much from
chain of thought. Where nothing was learnt there is nothing to compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from isogloss.analysis.baseline_claim import baseline_claim
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed import CrossedComparison
from isogloss.analysis.crossed_sensitivity import MIN_RELATED_BRANCHES
from isogloss.analysis.gain_slopes import ModelLevel
from isogloss.analysis.learning import Grounds, Learning, Obstacle
from isogloss.stats.margins import LARGEST_MARGIN
from isogloss.stats.permutation import ALPHA
from isogloss.stats.slopes import SlopeTest
from isogloss.types import Units, Verdict


class ClaimVerdict(StrEnum):
    """What a comparison shows of a claim; a verdict on kinship can also be one of `Verdict`.

    `difference seen` and `no difference seen` describe the contrast of one source, or of too few
    of them, which cannot carry a verdict on kinship.
    """

    NOT_TESTED = "not tested"
    NOTHING_TO_COMPARE = "nothing to compare"
    INCONCLUSIVE = "inconclusive"
    DIFFERENCE_SEEN = "difference seen"
    NO_DIFFERENCE_SEEN = "no difference seen"
    WEAK_GAIN_MORE = "weak baselines gain more"
    WEAK_GAIN_LESS = "weak baselines gain less"
    STRONG_GAIN_LITTLE = "strong ones little"
    STRONG_GAIN_MUCH = "strong ones more than little"
    STRONG_OPEN = "strong ones inconclusive"
    EQUALLY_LARGE = "equally large"
    TUNING_GAINS_MORE = "tuning gains more"
    COT_GAINS_MORE = "chain of thought gains more"
    DIFFERS_BY_MODEL = "differs by model"
    UNEQUAL_IN_SOME = "unequal in some models"
    EQUALITY_INCONCLUSIVE = "equality inconclusive"


@dataclass(frozen=True)
class ClaimVerdicts:
    """The verdict on each claim.

    `baseline` is on the first half of C2, `strong` on the second (None where it is not tested).
    `kinship_grounds` say why there is nothing to compare, where that is the verdict on C1, and
    `baseline_grounds` where it is that on C2.
    """

    kinship: Verdict | ClaimVerdict
    baseline: ClaimVerdict
    strong: ClaimVerdict | None
    size: ClaimVerdict
    kinship_grounds: Grounds | None = None
    baseline_grounds: Grounds | None = None

    @property
    def obstacle(self) -> Obstacle | None:
        """Why there is nothing to compare, where that is the verdict on C1."""
        return self.kinship_grounds.obstacle if self.kinship_grounds else None

    @property
    def by_claim(self) -> dict[str, str]:
        """The verdicts by name of the claim, as in the tags `isogloss.verdict_C1` and so on."""
        return {
            "C1": self.kinship,
            "C2": "; ".join(filter(None, (self.baseline, self.strong))),
            "C3": self.size,
        }


def claim_verdicts(comparison: Comparison) -> ClaimVerdicts:
    """The verdict on each claim, each only where something was learnt.

    Kinship is judged by the crossed design where there are sources of four branches.

    C2 has a verdict from the slope over models where there are five, and from that over languages
    where there is one model; between these it is not tested, since it is a claim about models. C3
    has one from the levels of each model (see `level_verdict`).
    """
    kinship, kinship_grounds = _kinship(comparison)
    baseline, strong, baseline_grounds = _baseline(comparison)
    return ClaimVerdicts(
        kinship, baseline, strong, _size(comparison), kinship_grounds, baseline_grounds
    )


def _kinship(comparison: Comparison) -> tuple[Verdict | ClaimVerdict, Grounds | None]:
    """C1, from the crossed design; a contrast of too few sources is only described.

    It can be equivalent, as a contrast.
    """
    decisive = comparison.decisive
    verdict = decisive.overall.verdict if decisive else comparison.contrast.verdict
    grounds = (
        _crossed_grounds(comparison, decisive)
        if decisive
        else _common_grounds((comparison.learning,), comparison)
    )
    different = verdict in (Verdict.RELATED_GAIN_MORE, Verdict.RELATED_GAIN_LESS)
    harmless = {
        Obstacle.NO_GAIN: different,  # a gain and a loss can cancel
        Obstacle.LARGE_MARGIN: verdict != Verdict.EQUIVALENT,
    }
    if grounds and not harmless.get(grounds.obstacle, False):
        return ClaimVerdict.NOTHING_TO_COMPARE, grounds
    if decisive or verdict == Verdict.EQUIVALENT:
        return verdict, None
    return ClaimVerdict.DIFFERENCE_SEEN if different else ClaimVerdict.NO_DIFFERENCE_SEEN, None


def _crossed_grounds(comparison: Comparison, crossed: CrossedComparison) -> Grounds | None:
    """Why the sources that have relatives leave nothing to compare, if so.

    There is something to compare if anything was learnt from any of them. Gains can be called equal
    only if enough was learnt from sources of as many branches as a verdict needs: kinship cannot
    show in the gains from a source that taught nothing.
    """
    related, learnt = [], []
    for source, own in zip(crossed.sources, comparison.source_learning, strict=True):
        if source.relatives:
            related.append(source)
            learnt.append(own)
    common = _common_grounds(learnt, comparison)
    taught_nothing = common is not None and common.obstacle != Obstacle.LARGE_MARGIN
    if taught_nothing or crossed.overall.verdict != Verdict.EQUIVALENT:
        return common
    obstacles = _obstacles(learnt, comparison)

    def branches(*accepted: Obstacle | None) -> int:
        found = zip(related, obstacles, strict=True)
        return len({source.branch for source, obstacle in found if obstacle in accepted})

    if branches(None) >= MIN_RELATED_BRANCHES:
        return None
    if branches(None, Obstacle.LARGE_MARGIN) >= MIN_RELATED_BRANCHES:
        return _large_margin(learnt, obstacles)
    nothing = sum(obstacle not in (None, Obstacle.LARGE_MARGIN) for obstacle in obstacles)
    clearest = min(learnt, key=lambda each: each.gain.p)
    return Grounds(Obstacle.FEW_SOURCES, clearest, len(learnt), nothing)


def _common_grounds(learnt: Sequence[Learning], comparison: Comparison) -> Grounds | None:
    """Why nothing was learnt anywhere; a large margin where something was, but nowhere enough.

    Of several gains that do not differ from zero, that with the lowest p is named.
    """
    obstacles = _obstacles(learnt, comparison)
    if Obstacle.LARGE_MARGIN in obstacles and None not in obstacles:
        return _large_margin(learnt, obstacles)
    grounds = [
        Grounds(obstacle, each, len(learnt), obstacles.count(obstacle))
        for each, obstacle in zip(learnt, obstacles, strict=True)
        if obstacle is not None
    ]
    if len(grounds) < len(learnt):
        return None
    return min(grounds, key=lambda own: (own.obstacle != Obstacle.NO_GAIN, own.learnt.gain.p))


def _obstacles(learnt: Sequence[Learning], comparison: Comparison) -> list[Obstacle | None]:
    """The obstacle of each, with p adjusted for their number."""
    return [
        each.obstacle(comparison.chance, comparison.margin, tests=len(learnt)) for each in learnt
    ]


def _large_margin(learnt: Sequence[Learning], obstacles: Sequence[Obstacle | None]) -> Grounds:
    """The largest of the gains beside which the margin is not small."""
    affected = [
        each
        for each, obstacle in zip(learnt, obstacles, strict=True)
        if obstacle == Obstacle.LARGE_MARGIN
    ]
    largest = max(affected, key=lambda each: abs(each.gain.estimate))
    return Grounds(Obstacle.LARGE_MARGIN, largest, len(learnt), len(affected))


def _baseline(
    comparison: Comparison,
) -> tuple[ClaimVerdict, ClaimVerdict | None, Grounds | None]:
    slopes, models = comparison.baseline_slopes, comparison.model_learning
    over_models = bool(slopes) and slopes[-1].units == Units.MODELS
    if len(models) > 1 and not over_models:
        return ClaimVerdict.NOT_TESTED, None, None
    grounds = _common_grounds(models, comparison)
    if grounds and grounds.obstacle != Obstacle.LARGE_MARGIN:
        return ClaimVerdict.NOTHING_TO_COMPARE, None, grounds
    if not slopes:
        return ClaimVerdict.NOT_TESTED, None, None
    first = _slope_verdict(slopes[-1].test)
    if not over_models:
        return first, None, None
    claim = baseline_claim(comparison)
    if claim.strong_within:
        return first, ClaimVerdict.STRONG_GAIN_LITTLE, None
    strong = ClaimVerdict.STRONG_GAIN_MUCH if claim.strong_beyond else ClaimVerdict.STRONG_OPEN
    return first, strong, None


def _slope_verdict(test: SlopeTest) -> ClaimVerdict:
    if not test.bounded or not test.interval.excludes(0.0):
        return ClaimVerdict.INCONCLUSIVE
    weak_more = test.interval.high < 0
    return ClaimVerdict.WEAK_GAIN_MORE if weak_more else ClaimVerdict.WEAK_GAIN_LESS


def _size(comparison: Comparison) -> ClaimVerdict:
    """C3, over the models that gained anything: one verdict that all share, or a mixed one.

    Verdicts may differ because some models are measured better than others. It `differs by model`
    only if tuning gains more in one and chain of thought in another, or if the difference of the
    two gains is shown to differ between two models; else it is `unequal in some models`.
    """
    if not comparison.model_levels:
        return ClaimVerdict.NOT_TESTED
    judged = [
        (level.tuned.label, verdict)
        for level in comparison.model_levels
        if (verdict := _verdict_of(level, comparison)) != ClaimVerdict.NOTHING_TO_COMPARE
    ]
    if not judged:
        return ClaimVerdict.NOTHING_TO_COMPARE
    models, verdicts = {model for model, _ in judged}, {verdict for _, verdict in judged}
    if len(verdicts) == 1:
        return verdicts.pop()
    unequal = {ClaimVerdict.TUNING_GAINS_MORE, ClaimVerdict.COT_GAINS_MORE} & verdicts
    if not unequal:
        return ClaimVerdict.EQUALITY_INCONCLUSIVE
    differ = len(unequal) == 2 or any(
        contrast.holm_p <= ALPHA and set(contrast.models) <= models
        for contrast in comparison.level_contrasts
    )
    return ClaimVerdict.DIFFERS_BY_MODEL if differ else ClaimVerdict.UNEQUAL_IN_SOME


def _verdict_of(level: ModelLevel, comparison: Comparison) -> ClaimVerdict:
    n_models = len(comparison.model_levels)
    return level_verdict(level, comparison.chance, comparison.margin, n_models)


def level_verdict(
    level: ModelLevel, chance: float | None, margin: float, models: int
) -> ClaimVerdict:
    """Whether a model gains as much from tuning as from chain of thought.

    The two are equally large if their difference is within the margin at 5%, and one is larger if
    it differs from zero at 5%; both p are adjusted for the number of models by Holm's method. There
    is nothing to compare if neither gain differs from zero or accuracy allows none, and nothing to
    call equal if the margin is not small beside the larger gain.
    """
    obstacles = [
        gain.obstacle(chance, margin, tests=2 * models) for gain in (level.tuned, level.cot)
    ]
    if all(obstacle not in (None, Obstacle.LARGE_MARGIN) for obstacle in obstacles):
        return ClaimVerdict.NOTHING_TO_COMPARE
    if level.holm_p_within <= ALPHA:
        larger = max(abs(level.tuned.gain.estimate), abs(level.cot.gain.estimate))
        small = margin <= LARGEST_MARGIN * larger
        return ClaimVerdict.EQUALLY_LARGE if small else ClaimVerdict.NOTHING_TO_COMPARE
    if level.holm_p > ALPHA:
        return ClaimVerdict.EQUALITY_INCONCLUSIVE
    more = level.difference.estimate > 0
    return ClaimVerdict.TUNING_GAINS_MORE if more else ClaimVerdict.COT_GAINS_MORE
