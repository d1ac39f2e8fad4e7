"""Verdicts on the three claims of arXiv:2606.19346.

C1: related languages gain no more than controls. C2: weak baselines gain much, strong ones little.
C3: what gains from fine-tuning gains as much from chain of thought.
"""

from dataclasses import dataclass
from enum import StrEnum

from isogloss.analysis.comparison import Comparison
from isogloss.stats.slopes import SlopeTest
from isogloss.stats.t_tests import MeanTest
from isogloss.types import Verdict


class ClaimVerdict(StrEnum):
    """What a comparison shows of C2 and C3; the verdicts of C1 are those of `Verdict`."""

    NOT_TESTED = "not tested"
    INCONCLUSIVE = "inconclusive"
    WEAK_GAIN_MORE = "weak baselines gain more"
    WEAK_GAIN_LESS = "weak baselines gain less"
    GAINS_AGREE = "gains go together"
    GAINS_DISAGREE = "gains do not go together"
    EQUALLY_LARGE = "equally large"
    TUNING_GAINS_MORE = "tuning gains more"
    COT_GAINS_MORE = "chain of thought gains more"
    EQUALITY_INCONCLUSIVE = "equality inconclusive"


@dataclass(frozen=True)
class ClaimVerdicts:
    """The verdict on each claim.

    C3 has two parts: `agreement`, whether gains from fine-tuning and chain of thought rise
    together, and `size`, which of them is larger (None where C3 is not tested).
    """

    kinship: Verdict
    baseline: ClaimVerdict
    agreement: ClaimVerdict
    size: ClaimVerdict | None

    @property
    def by_claim(self) -> dict[str, str]:
        """The verdicts by name of the claim, as in the tags `isogloss.verdict_C1` and so on."""
        return {
            "C1": self.kinship,
            "C2": self.baseline,
            "C3": "; ".join(filter(None, (self.agreement, self.size))),
        }


def claim_verdicts(comparison: Comparison) -> ClaimVerdicts:
    """The verdict on each claim, from slopes over models where there are five, else languages.

    Kinship is judged by the crossed design where there are sources of four branches.

    A slope has a verdict if its 95% interval excludes zero. Fine-tuning and chain of thought gain
    equally if the 90% interval of their difference lies within the equivalence margin.
    """
    baseline = agreement = ClaimVerdict.NOT_TESTED
    size = None
    if comparison.baseline_slopes:
        baseline = _slope_verdict(
            comparison.baseline_slopes[-1].test,
            negative=ClaimVerdict.WEAK_GAIN_MORE,
            positive=ClaimVerdict.WEAK_GAIN_LESS,
        )
    if comparison.gain_agreements:
        primary = comparison.gain_agreements[-1]
        agreement = _slope_verdict(
            primary.slope.test,
            negative=ClaimVerdict.GAINS_DISAGREE,
            positive=ClaimVerdict.GAINS_AGREE,
        )
        size = _size_verdict(primary.difference, comparison.margin)
    decisive = comparison.decisive
    kinship = decisive.overall.verdict if decisive else comparison.contrast.verdict
    return ClaimVerdicts(kinship, baseline, agreement, size)


def _slope_verdict(
    test: SlopeTest, *, negative: ClaimVerdict, positive: ClaimVerdict
) -> ClaimVerdict:
    if not test.bounded or not test.interval.excludes(0.0):
        return ClaimVerdict.INCONCLUSIVE
    return negative if test.interval.high < 0 else positive


def _size_verdict(difference: MeanTest, margin: float) -> ClaimVerdict:
    if difference.interval_90.inside(margin):
        return ClaimVerdict.EQUALLY_LARGE
    if not difference.interval_95.excludes(0.0):
        return ClaimVerdict.EQUALITY_INCONCLUSIVE
    if difference.estimate > 0:
        return ClaimVerdict.TUNING_GAINS_MORE
    return ClaimVerdict.COT_GAINS_MORE
