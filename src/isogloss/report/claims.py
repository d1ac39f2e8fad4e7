"""The three claims of the study in words: verdict, numbers and a sentence or two each.

"No evidence of" is never worded as "evidence of no".
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from isogloss.analysis.baseline_claim import baseline_claim
from isogloss.analysis.claims import (
    ClaimVerdict,
    ClaimVerdicts,
    claim_verdicts,
    level_verdict,
)
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainAgreement, GainSlope, LevelContrast, ModelLevel
from isogloss.analysis.omissions import OmissionReason, Predictor
from isogloss.formatting import (
    decimal,
    interval_points,
    interval_text,
    listed,
    p_value,
    points,
)
from isogloss.report.ability import kinship_in_ability, slope_in_ability, slope_units
from isogloss.report.evidence import contrast_interval
from isogloss.report.kinship import MODELS, grounds_text, kinship_conclusion, placebo_sentence
from isogloss.stats.permutation import ALPHA
from isogloss.stats.slopes import SlopeTest
from isogloss.stats.two_way import TwoWayMean
from isogloss.types import Interval, Units, Verdict

CROSSED: dict[Verdict | ClaimVerdict, str] = {
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
    ClaimVerdict.WEAK_GAIN_MORE: "First half borne out: weaker baselines gain more.",
    ClaimVerdict.WEAK_GAIN_LESS: "First half contradicted: weaker baselines gain less.",
    ClaimVerdict.INCONCLUSIVE: "First half open: these runs do not show whether weaker baselines "
    "gain more.",
}
STRONG = {
    ClaimVerdict.STRONG_GAIN_LITTLE: "Second half borne out: the gain of each strong model is "
    "within ±{margin} points.",
    ClaimVerdict.STRONG_GAIN_MUCH: "Second half contradicted: not all strong models gain less than "
    "{margin} points.",
    ClaimVerdict.STRONG_OPEN: "Second half open: it is not shown whether strong models gain less "
    "than {margin} points.",
    None: "Second half not tested: it needs several models.",
}
SIZE = {
    ClaimVerdict.EQUALLY_LARGE: "Borne out in these models: both gains are equal to within "
    "±{margin} points.",
    ClaimVerdict.TUNING_GAINS_MORE: "Contradicted: fine-tuning gains more.",
    ClaimVerdict.COT_GAINS_MORE: "Contradicted: chain of thought gains more.",
    ClaimVerdict.DIFFERS_BY_MODEL: "Contradicted in some models: their two gains differ, and by "
    "different amounts in different models.",
    ClaimVerdict.UNEQUAL_IN_SOME: "Contradicted in some models: their two gains differ. It is not "
    "shown that other models differ from these.",
    ClaimVerdict.EQUALITY_INCONCLUSIVE: "Open: both gains are shown neither equal nor different in "
    "every model.",
}
OVER_MODELS = "The claim is about models; a slope over models needs at least five."
NOTHING_LEARNT = "Nothing to compare: {reason}."


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
            conclusion=kinship_conclusion(comparison, verdicts)
            if verdicts.obstacle
            else _within(CROSSED[verdicts.kinship], comparison),
            details=kinship_in_ability(comparison),
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
        conclusion=kinship_conclusion(comparison, verdicts),
        key_result=placebo_sentence(comparison),
        details=kinship_in_ability(comparison),
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
    if grounds := verdicts.baseline_grounds:
        reason = grounds_text(grounds, comparison, MODELS)
        return text._replace(conclusion=NOTHING_LEARNT.format(reason=reason))
    if not slopes:
        return text
    *others, primary = slopes
    if verdicts.baseline == ClaimVerdict.NOT_TESTED:
        return text._replace(
            conclusion=OVER_MODELS,
            key_result=_baseline_line(primary),
            details=[*slope_in_ability(comparison), *_parts(comparison)],
        )
    halves = f"{BASELINE[verdicts.baseline]} {STRONG[verdicts.strong]}"
    return text._replace(
        numbers=_slope_numbers(primary.test),
        conclusion=_within(halves, comparison),
        key_result=_baseline_line(primary),
        details=[
            *slope_in_ability(comparison),
            *map(_baseline_line, others),
            *_parts(comparison),
            *_over_models(primary),
        ],
    )


def _parts(comparison: Comparison) -> list[str]:
    """Lines on `in every language` and `whatever the family`, for the weak models."""
    claim = baseline_claim(comparison)
    models = f"weak models ({listed(claim.weak)})" if claim.strong else listed(claim.weak)
    cases = "pairs of model and language" if len(claim.weak) > 1 else "languages"
    shown = "shown" if claim.every_language else "contradicted" if claim.lost else "not shown"
    lines = [
        f"In every language: {shown}; {models}: significant gains in {claim.gained} of "
        f"{claim.languages} {cases}, losses in {claim.lost} (Holm-adjusted p ≤ {ALPHA})."
    ]
    if math.isfinite(claim.family_p):
        differ = "contradicted" if claim.family_p <= ALPHA else "not contradicted"
        lines.append(
            f"Whatever the family: {differ}; mean gains of {claim.families} families, test that "
            f"they are equal: p {p_value(claim.family_p)}."
        )
    return lines


def _cot(comparison: Comparison, verdicts: ClaimVerdicts) -> ClaimText:
    text = ClaimText(
        name="C3",
        title="What gains from tuning gains as much from chain of thought",
        verdict=verdicts.by_claim["C3"],
        numbers=[],
        conclusion=_why_not(comparison, Predictor.CHAIN_OF_THOUGHT),
    )
    levels = comparison.model_levels
    if not levels:
        return text
    if verdicts.size == ClaimVerdict.NOTHING_TO_COMPARE:
        return text._replace(conclusion=_no_levels(comparison))
    agreements = comparison.gain_agreements
    difference = agreements[-1].difference if agreements else levels[0].difference
    return text._replace(
        numbers=[
            ("Difference", f"{points(difference.estimate)} points"),
            ("95% interval", interval_points(difference.interval_95)),
            ("90% interval", interval_points(difference.interval_90)),
        ],
        conclusion=_within(SIZE[verdicts.size], comparison),
        key_result=_difference_line(difference, levels),
        details=[*_level_lines(comparison), *_agreement_lines(agreements)],
    )


def _no_levels(comparison: Comparison) -> str:
    level = comparison.model_levels[0]
    tuned, cot = (
        f"{points(each.gain.estimate)} points (95% interval "
        f"{interval_points(each.gain.interval_95)})"
        for each in (level.tuned, level.cot)
    )
    reason = "no model's gain is large enough for two of them to be called equal"
    if len(comparison.model_levels) == 1:
        reason = (
            f"gains of {tuned} from tuning and {cot} from chain of thought are too small for two "
            f"of them to be called equal"
        )
    return NOTHING_LEARNT.format(reason=reason)


def _baseline_line(slope: GainSlope) -> str:
    test = slope.test
    if not test.bounded:
        line = (
            f"Over {slope_units(slope)}: no slope, since baselines vary no more than sampling noise"
        )
        naive = decimal(test.naive, 2)
        known = math.isfinite(test.naive)
        return (
            f"{line}, which alone can produce the naive slope of {naive}." if known else f"{line}."
        )
    line = (
        f"Over {slope_units(slope)}: {points(-0.1 * test.slope)} points of gain per 10 points of "
        f"lower baseline ({_slope_evidence(test, -1)}"
    )
    if slope.units == Units.LANGUAGES_WITHIN_MODELS:
        return line + ")."
    low, high = slope.predict(slope.x_min), slope.predict(slope.x_max)
    return (
        f"{line}), from {points(low)} points at a baseline of "
        f"{points(slope.x_min, signed=False)}% to {points(high)} at "
        f"{points(slope.x_max, signed=False)}%."
    )


def _agreement_lines(agreements: Sequence[GainAgreement]) -> list[str]:
    """How both gains go together: described, since both follow headroom."""
    if not agreements:
        return []
    *others, primary = agreements
    lines = [_agreement_line(each) for each in (primary, *others)]
    return [f"Described, without a verdict. {lines[0]}", *lines[1:]]


def _agreement_line(agreement: GainAgreement) -> str:
    test, partial = agreement.slope.test, agreement.partial
    line = f"Over {slope_units(agreement.slope)}: correlation of both gains at equal baseline "
    if math.isfinite(partial.estimate):
        line += (
            f"{decimal(partial.estimate, 2)} (95% interval {interval_text(partial.interval, 2)}, "
            f"p {p_value(partial.p)})"
        )
    else:
        line += "not estimable, since they vary there no more than sampling noise"
    if test.bounded and math.isfinite(test.correlation):
        line += (
            f"; {decimal(test.correlation, 2)} with the headroom that they share (naive "
            f"{decimal(test.naive_correlation, 2)})"
        )
    return f"{line}."


def _difference_line(difference: TwoWayMean, levels: Sequence[ModelLevel]) -> str:
    models = f", mean of these {len(levels)} models" if len(levels) > 1 else ""
    return (
        f"Accuracy after tuning minus accuracy with chain of thought{models}: "
        f"{points(difference.estimate)} points (95% interval "
        f"{interval_points(difference.interval_95)}, 90% interval "
        f"{interval_points(difference.interval_90)}, for other languages and passages)."
    )


def _level_lines(comparison: Comparison) -> list[str]:
    """How many models have each verdict; nothing for a single one."""
    levels = comparison.model_levels
    if len(levels) == 1:
        return []
    verdicts = [
        level_verdict(level, comparison.chance, comparison.margin, len(levels)) for level in levels
    ]
    counts = [
        f"{verdict} in {verdicts.count(verdict)}"
        for verdict in (*SIZE, ClaimVerdict.NOTHING_TO_COMPARE)
        if verdict in verdicts
    ]
    return [
        f"By model, of {len(levels)} (Holm-adjusted): {listed(counts)}. "
        f"{_between_models(comparison.level_contrasts)}"
    ]


def _between_models(contrasts: Sequence[LevelContrast]) -> str:
    """Whether the difference of the two gains is another in other models."""
    clearest = min(contrasts, key=lambda contrast: contrast.holm_p)
    p = f"(lowest Holm-adjusted p {p_value(clearest.holm_p)})"
    if clearest.holm_p > ALPHA:
        return f"No two models are shown to differ from each other {p}."
    apart = points(abs(clearest.difference.estimate), signed=False)
    return (
        f"The models that differ most clearly from each other are {listed(clearest.models)}, by "
        f"{apart} points {p}."
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


def _over_models(primary: GainSlope) -> list[str]:
    return [] if primary.units == Units.MODELS else [OVER_MODELS]


def _why_not(comparison: Comparison, predictor: Predictor) -> str:
    for omission in comparison.omissions:
        if omission.reason == OmissionReason.NO_SLOPE and omission.predictor == predictor:
            return f"No slope on {predictor}: {omission.problem}"
    return "It needs runs of one model in the conditions base, tuned and base+cot."


def _within(text: str, comparison: Comparison) -> str:
    return text.format(margin=points(comparison.margin, signed=False))
