"""The three claims of the study, as far as a comparison supports them.

The claims are those of arXiv:2606.19346. Each verdict goes as far as these runs reach: "no evidence
of" is never worded as "evidence of no".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from isogloss.analysis.adjusted_contrast import Covariate
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainAgreement, GainSlope
from isogloss.analysis.omissions import OmissionReason, Predictor
from isogloss.formatting import decimal, interval_points, listed, p_value, points
from isogloss.stats.contrasts import Contrast
from isogloss.stats.slopes import SlopeTest
from isogloss.stats.t_tests import MeanTest
from isogloss.types import Interval, Units, Verdict

ABOUT_MODELS = "The claim is about models; a slope over models needs at least five."


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
class Claim:
    """One claim of the study: verdicts, numbers as text, and sentences.

    `naive` is the estimate that ignores noise shared by both sides; it is empty where there is no
    such estimate.
    """

    name: str
    title: str
    verdicts: tuple[Verdict | ClaimVerdict, ...]
    estimate: str
    interval: str
    naive: str
    sentence: str

    @property
    def verdict(self) -> str:
        """The verdicts as text, as in the tag `isogloss.verdict_C3`."""
        return "; ".join(self.verdicts)


def claims(comparison: Comparison) -> tuple[Claim, ...]:
    """C1 (kinship), C2 (weak baselines) and C3 (chain of thought)."""
    return _kinship(comparison), _weak_baselines(comparison), _chain_of_thought(comparison)


def _kinship(comparison: Comparison) -> Claim:
    contrast = comparison.contrast
    conclusion = {
        Verdict.EQUIVALENT: "The claim is supported: related languages gained as much as "
        "controls, within the margin stated in advance.",
        Verdict.RELATED_GAIN_MORE: "The claim is not supported: related languages gained more.",
        Verdict.RELATED_GAIN_LESS: "Related languages have no advantage: they gained less.",
        Verdict.INCONCLUSIVE: "The claim is neither supported nor refuted: these runs cannot "
        "distinguish a difference from none.",
    }
    sentences = [
        f"Languages related to {comparison.source_name} gained {_more(contrast.estimate)} than "
        f"controls ({_evidence(contrast)}).",
        conclusion[contrast.verdict],
        *_adjusted_sentences(comparison),
        *_double_difference_sentences(comparison),
    ]
    return Claim(
        name="C1",
        title="No transfer specific to related languages",
        verdicts=(contrast.verdict,),
        estimate=f"{points(contrast.estimate)} points",
        interval=interval_points(contrast.permutation.interval_95),
        naive="",
        sentence=" ".join(sentences),
    )


def _adjusted_sentences(comparison: Comparison) -> Iterable[str]:
    estimated = [
        (adjustment.covariates, adjustment.contrast)
        for adjustment in comparison.adjustments
        if adjustment.contrast is not None
    ]
    if estimated:
        covariates, contrast = estimated[-1]  # the one with the most covariates is last
        yield (
            f"At equal {listed(covariates)} the contrast is {points(contrast.estimate)} points "
            f"(95% interval {interval_points(contrast.interval)}, p {p_value(contrast.p)}, "
            f"Freedman–Lane permutation test)."
        )
    for adjustment in comparison.adjustments:
        if adjustment.covariates == (Covariate.BASELINE,) and adjustment.contrast is None:
            yield f"The contrast is not adjusted for the baseline: {adjustment.problem}"


def _double_difference_sentences(comparison: Comparison) -> Iterable[str]:
    source = comparison.source_name
    conclusion = {
        Verdict.EQUIVALENT: "kinship gives no advantage that matters",
        Verdict.RELATED_GAIN_MORE: f"kinship with {source} helped",
        Verdict.RELATED_GAIN_LESS: f"kinship with {source} was a disadvantage",
        Verdict.INCONCLUSIVE: "inconclusive",
    }
    for difference in comparison.double_differences:
        contrast = difference.contrast
        yield (
            f"From tuning on {source} rather than {difference.name}, related languages gained "
            f"{_more(contrast.estimate)} than the {contrast.n_control} languages related to "
            f"neither ({_evidence(contrast)}): {conclusion[contrast.verdict]}."
        )


def _weak_baselines(comparison: Comparison) -> Claim:
    title = "Weak baselines gain much, strong ones little"
    slopes = comparison.baseline_slopes
    if not slopes:
        return _not_tested("C2", title, _why_no_slope(comparison, Predictor.BASELINE))
    primary = slopes[-1]
    verdict = _slope_verdict(primary, ClaimVerdict.WEAK_GAIN_MORE, ClaimVerdict.WEAK_GAIN_LESS)
    conclusion = {
        ClaimVerdict.INCONCLUSIVE: "These runs leave open whether weak baselines gain more.",
        ClaimVerdict.WEAK_GAIN_MORE: "The first half of the claim is supported.",
        ClaimVerdict.WEAK_GAIN_LESS: "The claim is not supported.",
    }[verdict]
    sentences = [*map(_baseline_sentence, slopes), conclusion]
    if primary.units != Units.MODELS:
        sentences.append(ABOUT_MODELS)
    return Claim(
        name="C2",
        title=title,
        verdicts=(verdict,),
        estimate=_slope_text(primary.test),
        interval=_slope_interval(primary.test.interval),
        naive=decimal(primary.test.naive, 2),
        sentence=" ".join(sentences),
    )


def _baseline_sentence(slope: GainSlope) -> str:
    test = slope.test
    if not test.bounded:
        return (
            f"Over {test.n_units} {_units(slope)}, baselines vary barely more than sampling noise, "
            f"so the slope on baseline cannot be estimated (p {p_value(test.p)} for no relation); "
            f"noise that both sides share can explain the naive slope, {decimal(test.naive, 2)}."
        )
    sentence = (
        f"Over {test.n_units} {_units(slope)}, a baseline lower by 10 points changes the gain by "
        f"{points(-0.1 * test.slope)} points (95% interval "
        f"{interval_points(_per_ten_points(test.interval, -1))}, p {p_value(test.p)}, "
        f"cross-fitted over passages; naive {points(-0.1 * test.naive)})"
    )
    if slope.units != Units.LANGUAGES_WITHIN_MODELS:
        low, high = slope.predict(slope.x_min), slope.predict(slope.x_max)
        sentence += (
            f", from {points(low)} points at a baseline of {points(slope.x_min, signed=False)}% "
            f"to {points(high)} points at {points(slope.x_max, signed=False)}%"
        )
    return sentence + "."


def _chain_of_thought(comparison: Comparison) -> Claim:
    title = "What gains from tuning gains as much from chain of thought"
    if not comparison.gain_agreements:
        return _not_tested("C3", title, _why_no_slope(comparison, Predictor.CHAIN_OF_THOUGHT))
    primary = comparison.gain_agreements[-1]
    size = _size_verdict(primary.difference, comparison.margin)
    sentences = [
        *map(_agreement_sentence, comparison.gain_agreements),
        _size_sentence(primary.difference, comparison.margin, size),
    ]
    if primary.slope.units != Units.MODELS:
        sentences.append(ABOUT_MODELS)
    return Claim(
        name="C3",
        title=title,
        verdicts=(
            _slope_verdict(primary.slope, ClaimVerdict.GAINS_DISAGREE, ClaimVerdict.GAINS_AGREE),
            size,
        ),
        estimate=_slope_text(primary.slope.test),
        interval=_slope_interval(primary.slope.test.interval),
        naive=decimal(primary.slope.test.naive, 2),
        sentence=" ".join(sentences),
    )


def _size_verdict(difference: MeanTest, margin: float) -> ClaimVerdict:
    if difference.interval_90.inside(margin):
        return ClaimVerdict.EQUALLY_LARGE
    if not difference.interval_95.excludes(0.0):
        return ClaimVerdict.EQUALITY_INCONCLUSIVE
    if difference.estimate > 0:
        return ClaimVerdict.TUNING_GAINS_MORE
    return ClaimVerdict.COT_GAINS_MORE


def _size_sentence(difference: MeanTest, margin: float, verdict: ClaimVerdict) -> str:
    return (
        f"Accuracy after tuning is {_more(difference.estimate, 'above', 'below')} that with chain "
        f"of thought (95% interval {interval_points(difference.interval_95)}, 90% interval "
        f"{interval_points(difference.interval_90)}; margin ±{points(margin, signed=False)}): "
        f"{verdict}."
    )


def _agreement_sentence(agreement: GainAgreement) -> str:
    slope, test = agreement.slope, agreement.slope.test
    if not test.bounded:
        return (
            f"Over {test.n_units} {_units(slope)}, gains from chain of thought vary barely more "
            f"than sampling noise, so whether both gains go together cannot be estimated; noise in "
            f"the shared baseline can explain the naive correlation, "
            f"{decimal(test.naive_correlation, 2)}."
        )
    sentence = (
        f"Over {test.n_units} {_units(slope)}, a gain from chain of thought larger by 10 points "
        f"changes the gain from tuning by {points(0.1 * test.slope)} points (95% interval "
        f"{interval_points(_per_ten_points(test.interval, 1))}, p {p_value(test.p)}, cross-fitted "
        f"over passages; naive {points(0.1 * test.naive)}); the correlation is "
        f"{decimal(test.correlation, 2)} (naive {decimal(test.naive_correlation, 2)})"
    )
    if not math.isnan(agreement.partial_correlation):
        sentence += f", and {decimal(agreement.partial_correlation, 2)} at equal baseline"
    return sentence + "."


def _not_tested(name: str, title: str, reason: str) -> Claim:
    return Claim(name, title, (ClaimVerdict.NOT_TESTED,), "", "", "", reason)


def _why_no_slope(comparison: Comparison, predictor: Predictor) -> str:
    for omission in comparison.omissions:
        if omission.reason == OmissionReason.NO_SLOPE and omission.predictor == predictor:
            return f"No slope on {predictor} could be estimated: {omission.problem}"
    return "The claim needs runs of base, tuned and base+cot of one model; no model has all three."


def _units(slope: GainSlope) -> str:
    return {
        Units.LANGUAGES: "related and control languages",
        Units.LANGUAGES_WITHIN_MODELS: "related and control languages within models",
        Units.MODELS: "models",
    }[slope.units]


def _slope_text(test: SlopeTest) -> str:
    return f"{decimal(test.slope, 2)} points per point" if test.bounded else "cannot be estimated"


def _slope_verdict(
    slope: GainSlope, negative: ClaimVerdict, positive: ClaimVerdict
) -> ClaimVerdict:
    interval = slope.test.interval
    if not math.isfinite(slope.test.slope) or not interval.excludes(0.0):
        return ClaimVerdict.INCONCLUSIVE
    return negative if interval.high < 0 else positive


def _per_ten_points(interval: Interval, sign: int) -> Interval:
    """Interval of the change in gain for 10 points more (`sign` 1) or less (-1)."""
    return Interval(*sorted(sign * 0.1 * end for end in interval))


def _slope_interval(interval: Interval) -> str:
    return f"[{decimal(interval.low, 2)}, {decimal(interval.high, 2)}]"


def _more(value: float, above: str = "more", below: str = "less") -> str:
    return f"{points(abs(value), signed=False)} points {above if value >= 0 else below}"


def _evidence(contrast: Contrast) -> str:
    test = contrast.permutation
    return f"95% interval {interval_points(test.interval_95)}, p {p_value(test.p)}"
