"""The three claims of the study, as far as a comparison bears them out.

The claims are those of arXiv:2606.19346. Each is stated as far as these runs carry it: "no evidence
of" is never worded as "evidence of no".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainAgreement, GainSlope
from isogloss.formatting import decimal, interval_points, listed, p_value, points
from isogloss.stats.contrasts import Contrast
from isogloss.stats.slopes import SlopeTest
from isogloss.types import Interval

ABOUT_MODELS = "The claim is about models, of which a slope needs at least five."


@dataclass(frozen=True)
class Claim:
    """One claim of the study: what these runs say of it, in numbers (as text) and a sentence.

    `naive` is the estimate that ignores noise shared by both sides, empty where there is none.
    """

    name: str
    title: str
    verdict: str
    estimate: str
    interval: str
    naive: str
    sentence: str


def claims(comparison: Comparison) -> tuple[Claim, ...]:
    """C1 (kinship), C2 (weak baselines) and C3 (chain of thought)."""
    return _kinship(comparison), _weak(comparison), _thinking(comparison)


def _kinship(comparison: Comparison) -> Claim:
    contrast = comparison.contrast
    meaning = {
        "equivalent": "The claim is borne out: relatives gained as much as controls, within the "
        "margin stated in advance.",
        "related gain more": "The claim does not hold here: relatives gained more.",
        "related gain less": "There is no advantage of relatives: they gained less.",
        "inconclusive": "The claim is neither borne out nor refuted: too little is known to tell "
        "a difference from none.",
    }
    sentences = [
        f"Relatives of {comparison.source_name} gained {_more(contrast.estimate)} than controls "
        f"({_evidence(contrast)}).",
        meaning[contrast.verdict],
        *_adjusted_sentences(comparison),
        *(
            f"What relatives gain from {comparison.source_name} beyond what they gain from "
            f"{other.name}, held against {other.contrast.n_control} languages that are kin to "
            f"neither, is {points(other.contrast.estimate)} points ({_evidence(other.contrast)}): "
            f"{_double_verdict(other.contrast, comparison.source_name)}."
            for other in comparison.double_differences
        ),
    ]
    return Claim(
        name="C1",
        title="No transfer that is specific to relatives",
        verdict=contrast.verdict,
        estimate=f"{points(contrast.estimate)} points",
        interval=interval_points(contrast.permutation.interval_95),
        naive="",
        sentence=" ".join(sentences),
    )


def _double_verdict(contrast: Contrast, source: str) -> str:
    return {
        "equivalent": "no advantage of kinship that matters",
        "related gain more": f"kinship with {source} helped",
        "related gain less": f"kinship with {source} hindered",
        "inconclusive": "inconclusive",
    }[contrast.verdict]


def _adjusted_sentences(comparison: Comparison) -> Iterable[str]:
    done = [each for each in comparison.adjustments if each.contrast is not None]
    if not done:
        return
    widest = done[-1]
    adjusted = widest.contrast
    assert adjusted is not None
    yield (
        f"At equal {listed(widest.covariates)} the contrast is {points(adjusted.estimate)} points "
        f"(95% interval {interval_points(adjusted.interval)}, p {p_value(adjusted.p)} by Freedman "
        f"and Lane's permutation)."
    )
    for each in comparison.adjustments:
        if each.covariates == ("baseline",) and each.contrast is None:
            yield f"It was not adjusted for the baseline: {each.problem}"


def _weak(comparison: Comparison) -> Claim:
    title = "Weak baselines gain much, strong ones little"
    relations = comparison.baseline_slopes
    if not relations:
        why = _not_tested(comparison, "baseline", "No slope could be estimated.")
        return Claim("C2", title, "not tested", "", "", "", why)
    primary = relations[-1]
    verdict = _slope_verdict(primary, ("weak baselines gain more", "weak baselines gain less"))
    sentences = []
    for relation in relations:
        test = relation.test
        if not test.bounded:
            sentences.append(
                f"Over {test.n_units} {_units(relation)}, baselines differ hardly more than "
                f"sampling noise makes them, so a slope on baseline cannot be estimated (p "
                f"{p_value(test.p)} for no relation); the naive slope, {decimal(test.naive, 2)}, "
                f"is what noise in both can give by itself."
            )
            continue
        sentence = (
            f"Over {test.n_units} {_units(relation)}, a baseline 10 points lower goes with a gain "
            f"{points(-0.1 * test.slope)} points different (95% interval "
            f"{interval_points(_tenth(test.interval, -1))}, p {p_value(test.p)}, cross-fitted over "
            f"passages; naively {points(-0.1 * test.naive)})"
        )
        if relation.units != "languages within models":
            low, high = relation.predict(relation.x_min), relation.predict(relation.x_max)
            sentence += (
                f", about {points(low)} points at a baseline of "
                f"{points(relation.x_min, signed=False)}% and {points(high)} at "
                f"{points(relation.x_max, signed=False)}%"
            )
        sentences.append(sentence + ".")
    sentences.append(
        {
            "inconclusive": "Whether weak baselines gain more is left open by these runs.",
            "weak baselines gain more": "The first half of the claim is borne out.",
            "weak baselines gain less": "The claim does not hold here.",
        }[verdict]
    )
    if relations[-1].units != "models":
        sentences.append(ABOUT_MODELS)
    return Claim(
        name="C2",
        title=title,
        verdict=verdict,
        estimate=_slope(primary.test),
        interval=_bare(primary.test.interval),
        naive=decimal(primary.test.naive, 2),
        sentence=" ".join(sentences),
    )


def _thinking(comparison: Comparison) -> Claim:
    title = "What gains from tuning gains as much from chain of thought"
    if not comparison.gain_agreements:
        needs = "It needs runs of base, tuned and base+cot of one model; there are none here."
        why = _not_tested(comparison, "chain of thought", needs)
        return Claim("C3", title, "not tested", "", "", "", why)
    primary = comparison.gain_agreements[-1]
    goes = _slope_verdict(primary.slope, ("gains do not go together", "gains go together"))
    margin = comparison.margin
    difference = primary.difference
    if difference.interval_90.inside(margin):
        equal = "equally large"
    elif difference.interval_95.excludes(0.0):
        equal = "tuning gains more" if difference.estimate > 0 else "chain of thought gains more"
    else:
        equal = "equality inconclusive"
    sentences = [_together_sentence(each) for each in comparison.gain_agreements]
    sentences.append(
        f"Tuned accuracy is {_more(difference.estimate, 'above', 'below')} that of chain of "
        f"thought (95% interval {interval_points(difference.interval_95)}, 90% interval "
        f"{interval_points(difference.interval_90)}; margin ±{points(margin, signed=False)}): "
        f"{equal}."
    )
    if primary.slope.units != "models":
        sentences.append(ABOUT_MODELS)
    return Claim(
        name="C3",
        title=title,
        verdict=f"{goes}; {equal}",
        estimate=_slope(primary.slope.test),
        interval=_bare(primary.slope.test.interval),
        naive=decimal(primary.slope.test.naive, 2),
        sentence=" ".join(sentences),
    )


def _together_sentence(each: GainAgreement) -> str:
    test = each.slope.test
    if not test.bounded:
        return (
            f"Over {test.n_units} {_units(each.slope)}, gains from chain of thought differ hardly "
            f"more than sampling noise makes them, so it cannot be told whether both gains go "
            f"together; the naive correlation, {decimal(test.naive_correlation, 2)}, is what noise "
            f"in the shared baseline can give by itself."
        )
    given = each.partial_correlation
    partial = (
        "" if math.isnan(given) else f" At equal baseline their correlation is {decimal(given, 2)}."
    )
    return (
        f"Over {test.n_units} {_units(each.slope)}, a gain from chain of thought 10 points larger "
        f"goes with a gain from tuning {points(0.1 * test.slope)} points different (95% interval "
        f"{interval_points(_tenth(test.interval, 1))}, p {p_value(test.p)}, cross-fitted over "
        f"passages; naively {points(0.1 * test.naive)}); the correlation is "
        f"{decimal(test.correlation, 2)} (naively {decimal(test.naive_correlation, 2)})." + partial
    )


def _not_tested(comparison: Comparison, what: str, otherwise: str) -> str:
    """Why there is no slope on `what`."""
    reasons = (line for line in comparison.left_out if line.startswith(f"No slope on {what}"))
    return next(reasons, otherwise)


def _units(relation: GainSlope) -> str:
    return relation.units.replace("languages", "related and control languages")


def _slope(test: SlopeTest) -> str:
    return f"{decimal(test.slope, 2)} points a point" if test.bounded else "cannot be estimated"


def _slope_verdict(relation: GainSlope, names: tuple[str, str]) -> str:
    interval = relation.test.interval
    if not math.isfinite(relation.test.slope) or not interval.excludes(0.0):
        return "inconclusive"
    return names[0] if interval.high < 0 else names[1]


def _tenth(interval: Interval, sign: int) -> Interval:
    """In gains for 10 points more (`sign` 1) or less (-1)."""
    return Interval(*sorted(sign * 0.1 * end for end in interval))


def _bare(interval: Interval) -> str:
    return f"[{decimal(interval.low, 2)}, {decimal(interval.high, 2)}]"


def _more(value: float, above: str = "more", below: str = "less") -> str:
    return f"{points(abs(value), signed=False)} points {above if value >= 0 else below}"


def _evidence(contrast: Contrast) -> str:
    test = contrast.permutation
    return f"95% interval {interval_points(test.interval_95)}, p {p_value(test.p)}"
