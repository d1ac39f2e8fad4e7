"""The three claims of the study in words: verdict, numbers and a sentence or two each.

"No evidence of" is never worded as "evidence of no".
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from isogloss.analysis.claims import (
    ClaimVerdict,
    ClaimVerdicts,
    claim_verdicts,
)
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainAgreement, GainSlope
from isogloss.analysis.omissions import OmissionReason, Predictor
from isogloss.formatting import decimal, interval_points, interval_text, p_value, points
from isogloss.report.evidence import contrast_interval
from isogloss.stats.slopes import SlopeTest
from isogloss.types import Interval, Units, Verdict

KINSHIP = {
    Verdict.EQUIVALENT: "Supported by this contrast: related languages gained as much as controls, "
    "to within ±{margin} points.",
    Verdict.RELATED_GAIN_MORE: "Contradicted by this contrast: related languages gained more than "
    "controls.",
    Verdict.RELATED_GAIN_LESS: "No advantage of related languages: they gained less than controls.",
    Verdict.INCONCLUSIVE: "Neither supported nor contradicted: too few data to distinguish a "
    "difference from none.",
}
CROSSED = {
    Verdict.EQUIVALENT: "Supported: over these sources, related languages gained as much as "
    "others, to within ±{margin} points.",
    Verdict.RELATED_GAIN_MORE: "Contradicted: over these sources, related languages gained more "
    "than others.",
    Verdict.RELATED_GAIN_LESS: "No advantage of related languages: over these sources, they gained "
    "less than others.",
    Verdict.INCONCLUSIVE: "Neither supported nor contradicted: too few data to distinguish an "
    "effect of kinship from none.",
}
BASELINE = {
    ClaimVerdict.WEAK_GAIN_MORE: "First half supported: weaker baselines gain more.",
    ClaimVerdict.WEAK_GAIN_LESS: "Contradicted: weaker baselines gain less.",
    ClaimVerdict.INCONCLUSIVE: "Open: these runs do not show whether weaker baselines gain more.",
}
AGREEMENT = {
    ClaimVerdict.GAINS_AGREE: "Both gains rise together",
    ClaimVerdict.GAINS_DISAGREE: "Contradicted: one gain falls as the other rises",
    ClaimVerdict.INCONCLUSIVE: "Open whether both gains rise together",
}
SIZE = {
    ClaimVerdict.EQUALLY_LARGE: "on average they are equal to within ±{margin} points.",
    ClaimVerdict.TUNING_GAINS_MORE: "on average fine-tuning gains more.",
    ClaimVerdict.COT_GAINS_MORE: "on average chain of thought gains more.",
    ClaimVerdict.EQUALITY_INCONCLUSIVE: "on average they are shown neither equal nor different.",
}
OVER_MODELS = "The claim is about models; a slope over models needs at least five."


class ClaimText(NamedTuple):
    """A claim: labelled `numbers`, the conclusion and the result it rests on, then the rest."""

    name: str
    title: str
    verdict: str
    numbers: Sequence[tuple[str, str]]
    conclusion: str
    key_result: str = ""
    details: Sequence[str] = ()


def claim_texts(comparison: Comparison) -> tuple[ClaimText, ...]:
    """C1 (kinship), C2 (weak baselines) and C3 (chain of thought)."""
    verdicts = claim_verdicts(comparison)
    return _kinship(comparison, verdicts), _weak(comparison, verdicts), _cot(comparison, verdicts)


def _kinship(comparison: Comparison, verdicts: ClaimVerdicts) -> ClaimText:
    if crossed := comparison.decisive:
        effect = crossed.overall
        return ClaimText(
            name="C1",
            title="No transfer specific to related languages",
            verdict=verdicts.by_claim["C1"],
            numbers=[
                ("Estimate", f"{points(effect.estimate)} points"),
                ("95% interval", interval_points(effect.interval_95)),
                ("p", p_value(effect.p).removeprefix("= ")),
                ("Sources", str(effect.n_sources)),
            ],
            conclusion=_within(CROSSED[verdicts.kinship], comparison),
        )
    contrast = comparison.contrast
    return ClaimText(
        name="C1",
        title="No transfer specific to related languages",
        verdict=verdicts.by_claim["C1"],
        numbers=[
            ("Estimate", f"{points(contrast.estimate)} points"),
            ("95% interval", contrast_interval(contrast)),
            ("p", p_value(contrast.permutation.p).removeprefix("= ")),
        ],
        conclusion=_within(KINSHIP[verdicts.kinship], comparison),
    )


def _weak(comparison: Comparison, verdicts: ClaimVerdicts) -> ClaimText:
    slopes = comparison.baseline_slopes
    text = ClaimText(
        name="C2",
        title="Weak baselines gain much, strong ones little",
        verdict=verdicts.by_claim["C2"],
        numbers=[],
        conclusion=_why_not(comparison, Predictor.BASELINE),
    )
    if not slopes:
        return text
    *others, primary = slopes
    return text._replace(
        numbers=_slope_numbers(primary.test),
        conclusion=BASELINE[verdicts.baseline],
        key_result=_baseline_line(primary),
        details=[*map(_baseline_line, others), *_over_models(primary)],
    )


def _cot(comparison: Comparison, verdicts: ClaimVerdicts) -> ClaimText:
    text = ClaimText(
        name="C3",
        title="What gains from tuning gains as much from chain of thought",
        verdict=verdicts.by_claim["C3"],
        numbers=[],
        conclusion=_why_not(comparison, Predictor.CHAIN_OF_THOUGHT),
    )
    if not comparison.gain_agreements or verdicts.size is None:
        return text
    *others, primary = comparison.gain_agreements
    size = _within(SIZE[verdicts.size], comparison)
    return text._replace(
        numbers=_slope_numbers(primary.slope.test),
        conclusion=f"{AGREEMENT[verdicts.agreement]}; {size}",
        key_result=_agreement_line(primary),
        details=[
            _difference_line(primary),
            *map(_agreement_line, others),
            *_over_models(primary.slope),
        ],
    )


def _baseline_line(slope: GainSlope) -> str:
    test = slope.test
    if not test.bounded:
        line = f"Over {_units(slope)}: no slope, since baselines vary no more than sampling noise"
        naive = decimal(test.naive, 2)
        known = math.isfinite(test.naive)
        return (
            f"{line}, which alone can produce the naive slope of {naive}." if known else f"{line}."
        )
    line = (
        f"Over {_units(slope)}: {points(-0.1 * test.slope)} points of gain per 10 points of lower "
        f"baseline ({_slope_evidence(test, -1)}"
    )
    if slope.units == Units.LANGUAGES_WITHIN_MODELS:
        return line + ")."
    low, high = slope.predict(slope.x_min), slope.predict(slope.x_max)
    return (
        f"{line}), from {points(low)} points at a baseline of "
        f"{points(slope.x_min, signed=False)}% to {points(high)} at "
        f"{points(slope.x_max, signed=False)}%."
    )


def _agreement_line(agreement: GainAgreement) -> str:
    test = agreement.slope.test
    if not test.bounded:
        line = (
            f"Over {_units(agreement.slope)}: no slope, since gains from chain of thought vary no "
            f"more than sampling noise"
        )
        naive = decimal(test.naive_correlation, 2)
        known = math.isfinite(test.naive_correlation)
        shared = (
            f"; noise in the shared baseline alone can produce the naive correlation of {naive}"
        )
        return f"{line}{shared if known else ''}."
    correlation = ""
    if math.isfinite(test.correlation):
        correlation = (
            f"; correlation {decimal(test.correlation, 2)} (naive "
            f"{decimal(test.naive_correlation, 2)})"
        )
    if math.isfinite(agreement.partial_correlation):
        correlation += f", {decimal(agreement.partial_correlation, 2)} at equal baseline"
    return (
        f"Over {_units(agreement.slope)}: {points(0.1 * test.slope)} points of gain from tuning "
        f"per 10 points of gain from chain of thought ({_slope_evidence(test, 1)}){correlation}."
    )


def _difference_line(agreement: GainAgreement) -> str:
    difference = agreement.difference
    return (
        f"Accuracy after tuning minus accuracy with chain of thought: "
        f"{points(difference.estimate)} points (95% interval "
        f"{interval_points(difference.interval_95)}, 90% interval "
        f"{interval_points(difference.interval_90)})."
    )


def _slope_evidence(test: SlopeTest, sign: int) -> str:
    """Interval and p of a slope, per 10 points more (`sign` 1) or less (-1)."""
    interval = Interval(*sorted(sign * 0.1 * end for end in test.interval))
    return (
        f"95% interval {interval_points(interval)}, p {p_value(test.p)}; naive "
        f"{points(sign * 0.1 * test.naive)}"
    )


def _slope_numbers(test: SlopeTest) -> list[tuple[str, str]]:
    if not test.bounded:
        return [("Slope", "not estimable")]
    return [
        ("Slope", f"{decimal(test.slope, 2)} points per point"),
        ("95% interval", interval_text(test.interval, 2)),
        ("p", p_value(test.p).removeprefix("= ")),
        ("Naive", decimal(test.naive, 2)),
    ]


def _units(slope: GainSlope) -> str:
    names = slope.units.replace("languages", "related and control languages")
    return f"{slope.test.n_units} {names}"


def _over_models(primary: GainSlope) -> list[str]:
    return [] if primary.units == Units.MODELS else [OVER_MODELS]


def _why_not(comparison: Comparison, predictor: Predictor) -> str:
    for omission in comparison.omissions:
        if omission.reason == OmissionReason.NO_SLOPE and omission.predictor == predictor:
            return f"No slope on {predictor}: {omission.problem}"
    return "It needs runs of one model in the conditions base, tuned and base+cot."


def _within(text: str, comparison: Comparison) -> str:
    return text.format(margin=points(comparison.margin, signed=False))
