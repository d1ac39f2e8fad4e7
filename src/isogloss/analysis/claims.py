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
from isogloss.analysis.gain_slopes import ModelLevel
from isogloss.analysis.learning import LARGEST_MARGIN, Learning, Obstacle
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
    EQUALITY_INCONCLUSIVE = "equality inconclusive"


@dataclass(frozen=True)
class ClaimVerdicts:
    """The verdict on each claim.

    `baseline` is on the first half of C2, `strong` on the second (None where it is not tested).
    `obstacle` says why there is nothing to compare, where that is the verdict on C1.
    """

    kinship: Verdict | ClaimVerdict
    baseline: ClaimVerdict
    strong: ClaimVerdict | None
    size: ClaimVerdict
    obstacle: Obstacle | None = None

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
    kinship, obstacle = _kinship(comparison)
    baseline, strong = _baseline(comparison)
    return ClaimVerdicts(kinship, baseline, strong, _size(comparison), obstacle)


def _kinship(comparison: Comparison) -> tuple[Verdict | ClaimVerdict, Obstacle | None]:
    """C1, from the crossed design; a contrast of too few sources is only described.

    It can be equivalent, as a contrast. A crossed design has something to compare if anything was
    learnt from any source.
    """
    decisive = comparison.decisive
    verdict = decisive.overall.verdict if decisive else comparison.contrast.verdict
    sources = comparison.source_learning if decisive else (comparison.learning,)
    obstacle = _common_obstacle(sources, comparison)
    different = verdict in (Verdict.RELATED_GAIN_MORE, Verdict.RELATED_GAIN_LESS)
    harmless = {
        Obstacle.NO_GAIN: different,  # a gain and a loss can cancel
        Obstacle.LARGE_MARGIN: verdict != Verdict.EQUIVALENT,
    }
    if obstacle and not harmless.get(obstacle, False):
        return ClaimVerdict.NOTHING_TO_COMPARE, obstacle
    if decisive or verdict == Verdict.EQUIVALENT:
        return verdict, None
    return ClaimVerdict.DIFFERENCE_SEEN if different else ClaimVerdict.NO_DIFFERENCE_SEEN, None


def _common_obstacle(learnt: Sequence[Learning], comparison: Comparison) -> Obstacle | None:
    """Why nothing was learnt anywhere; a large margin where something was, but nowhere enough."""
    obstacles = [
        each.obstacle(comparison.chance, comparison.margin, tests=len(learnt)) for each in learnt
    ]
    if None in obstacles:
        return None
    return Obstacle.LARGE_MARGIN if Obstacle.LARGE_MARGIN in obstacles else obstacles[0]


def _baseline(comparison: Comparison) -> tuple[ClaimVerdict, ClaimVerdict | None]:
    slopes, models = comparison.baseline_slopes, comparison.model_learning
    over_models = bool(slopes) and slopes[-1].units == Units.MODELS
    if not slopes or (len(models) > 1 and not over_models):
        return ClaimVerdict.NOT_TESTED, None
    if _common_obstacle(models, comparison) not in (None, Obstacle.LARGE_MARGIN):
        return ClaimVerdict.NOTHING_TO_COMPARE, None
    first = _slope_verdict(slopes[-1].test)
    if not over_models:
        return first, None
    claim = baseline_claim(comparison)
    if claim.strong_within:
        return first, ClaimVerdict.STRONG_GAIN_LITTLE
    return first, (
        ClaimVerdict.STRONG_GAIN_MUCH if claim.strong_beyond else ClaimVerdict.STRONG_OPEN
    )


def _slope_verdict(test: SlopeTest) -> ClaimVerdict:
    if not test.bounded or not test.interval.excludes(0.0):
        return ClaimVerdict.INCONCLUSIVE
    weak_more = test.interval.high < 0
    return ClaimVerdict.WEAK_GAIN_MORE if weak_more else ClaimVerdict.WEAK_GAIN_LESS


def _size(comparison: Comparison) -> ClaimVerdict:
    """C3, over the models that gained anything: one verdict that all share, or a mixed one."""
    verdicts = [
        level_verdict(level, comparison.chance, comparison.margin, len(comparison.model_levels))
        for level in comparison.model_levels
    ]
    if not verdicts:
        return ClaimVerdict.NOT_TESTED
    judged = [verdict for verdict in verdicts if verdict != ClaimVerdict.NOTHING_TO_COMPARE]
    return _common(judged) if judged else ClaimVerdict.NOTHING_TO_COMPARE


def _common(verdicts: Sequence[ClaimVerdict]) -> ClaimVerdict:
    if len(set(verdicts)) == 1:
        return verdicts[0]
    different = {ClaimVerdict.TUNING_GAINS_MORE, ClaimVerdict.COT_GAINS_MORE} & set(verdicts)
    return ClaimVerdict.DIFFERS_BY_MODEL if different else ClaimVerdict.EQUALITY_INCONCLUSIVE


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
