"""What a comparison shows, in sentences: the verdict in a paragraph, and the study's three claims.

The claims are those of arXiv:2606.19346. Each is stated as far as these runs carry it: "no evidence
of" is never worded as "evidence of no".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from isogloss.analyses import Relation, Together
from isogloss.comparison import Comparison
from isogloss.contrasts import Contrast
from isogloss.formatting import decimal, interval_points, p_value, points
from isogloss.gains import mean_parts
from isogloss.paired import Interval
from isogloss.slopes import SlopeTest

FEWEST_SEEDS = 3


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


def paragraph(comparison: Comparison) -> str:
    """The verdict and all that it rests on, in plain English."""
    return " ".join(
        [
            _groups_sentence(comparison),
            _contrast_sentence(comparison),
            *_verdict_sentences(comparison),
            _sensitivity_sentence(comparison),
            *_seed_sentences(comparison),
            *_everyone_sentences(comparison),
        ]
    )


def _kinship(comparison: Comparison) -> Claim:
    contrast = comparison.accuracy
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
            for other in comparison.control_sources
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
        f"At equal {_and(widest.covariates)} the contrast is {points(adjusted.estimate)} points "
        f"(95% interval {interval_points(adjusted.interval)}, p {p_value(adjusted.p)} by Freedman "
        f"and Lane's permutation)."
    )
    for each in comparison.adjustments:
        if each.covariates == ("baseline",) and each.contrast is None:
            yield f"It was not adjusted for the baseline: {each.problem}"


def _weak(comparison: Comparison) -> Claim:
    title = "Weak baselines gain much, strong ones little"
    relations = comparison.weak_baselines
    if not relations:
        return Claim("C2", title, "not tested", "", "", "", _not_tested(comparison, "baseline"))
    primary = relations[-1]
    verdict = _slope_verdict(primary, ("weak baselines gain more", "weak baselines gain less"))
    sentences = []
    for relation in relations:
        test = relation.test
        if not test.bounded:
            sentences.append(
                f"Over {test.units} {_units(relation)}, baselines differ hardly more than sampling "
                f"noise makes them, so a slope on baseline cannot be estimated (p "
                f"{p_value(test.p)} for no relation); the naive slope, {decimal(test.naive, 2)}, "
                f"is what noise in both can give by itself."
            )
            continue
        sentence = (
            f"Over {test.units} {_units(relation)}, a baseline 10 points lower goes with a gain "
            f"{points(-0.1 * test.slope)} points different (95% interval "
            f"{interval_points(_tenth(test.interval))}, p {p_value(test.p)}, cross-fitted over "
            f"passages; naively {points(-0.1 * test.naive)})"
        )
        if relation.units != "languages within models":
            low, high = relation.at(relation.lowest), relation.at(relation.highest)
            sentence += (
                f", about {points(low)} points at a baseline of "
                f"{points(relation.lowest, signed=False)}% and {points(high)} at "
                f"{points(relation.highest, signed=False)}%"
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
        sentences.append("The claim is about models, of which a slope needs at least five.")
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
    if not comparison.together:
        return Claim("C3", title, "not tested", "", "", "", _not_tested(comparison, "chain"))
    primary = comparison.together[-1]
    goes = _slope_verdict(primary.relation, ("gains do not go together", "gains go together"))
    margin = comparison.margin
    difference = primary.difference
    if difference.interval_90.inside(margin):
        equal = "equally large"
    elif difference.interval_95.excludes(0.0):
        equal = "tuning gains more" if difference.estimate > 0 else "chain of thought gains more"
    else:
        equal = "equality inconclusive"
    sentences = [_together_sentence(each) for each in comparison.together]
    sentences.append(
        f"Tuned accuracy is {_more(difference.estimate, 'above', 'below')} that of chain of "
        f"thought (95% interval {interval_points(difference.interval_95)}, 90% interval "
        f"{interval_points(difference.interval_90)}; margin ±{points(margin, signed=False)}): "
        f"{equal}."
    )
    if primary.relation.units != "models":
        sentences.append("The claim is about models, of which a slope needs at least five.")
    return Claim(
        name="C3",
        title=title,
        verdict=f"{goes}; {equal}",
        estimate=_slope(primary.relation.test),
        interval=_bare(primary.relation.test.interval),
        naive=decimal(primary.relation.test.naive, 2),
        sentence=" ".join(sentences),
    )


def _together_sentence(each: Together) -> str:
    test = each.relation.test
    if not test.bounded:
        return (
            f"Over {test.units} {_units(each.relation)}, gains from chain of thought differ hardly "
            f"more than sampling noise makes them, so it cannot be told whether both gains go "
            f"together; the naive correlation, {decimal(test.naive_correlation, 2)}, is what noise "
            f"in the shared baseline can give by itself."
        )
    given = each.given_baseline
    partial = (
        "" if math.isnan(given) else f" At equal baseline their correlation is {decimal(given, 2)}."
    )
    return (
        f"Over {test.units} {_units(each.relation)}, a gain from chain of thought 10 points larger "
        f"goes with a gain from tuning {points(0.1 * test.slope)} points different (95% interval "
        f"{interval_points(_tenth(test.interval, -1))}, p {p_value(test.p)}, cross-fitted over "
        f"passages; naively {points(0.1 * test.naive)}); the correlation is "
        f"{decimal(test.correlation, 2)} (naively {decimal(test.naive_correlation, 2)})." + partial
    )


def _not_tested(comparison: Comparison, what: str) -> str:
    reasons = [line for line in comparison.left_out if what in line and line.startswith("No slope")]
    if what == "chain":
        return reasons[0] if reasons else (
            "It needs runs of base, tuned and base+cot of one model; there are none here."
        )  # fmt: skip
    return reasons[0] if reasons else "No slope could be estimated."


def _units(relation: Relation) -> str:
    return relation.units.replace("languages", "related and control languages")


def _slope(test: SlopeTest) -> str:
    return f"{decimal(test.slope, 2)} points a point" if test.bounded else "cannot be estimated"


def _slope_verdict(relation: Relation, names: tuple[str, str]) -> str:
    interval = relation.test.interval
    if not math.isfinite(relation.test.slope) or not interval.excludes(0.0):
        return "inconclusive"
    return names[0] if interval.high < 0 else names[1]


def _tenth(interval: Interval, sign: int = 1) -> Interval:
    """In gains for 10 points, the sign turned unless `sign` is -1."""
    ends = sorted(-sign * 0.1 * end for end in interval)
    return Interval(*ends)


def _bare(interval: Interval) -> str:
    return f"[{decimal(interval.low, 2)}, {decimal(interval.high, 2)}]"


def _more(value: float, above: str = "more", below: str = "less") -> str:
    return f"{points(abs(value), signed=False)} points {above if value >= 0 else below}"


def _evidence(contrast: Contrast) -> str:
    test = contrast.permutation
    return f"95% interval {interval_points(test.interval_95)}, p {p_value(test.p)}"


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _groups_sentence(comparison: Comparison) -> str:
    contrast = comparison.accuracy
    names = ", ".join(sorted(row.name for row in comparison.overall.members("related")))
    models = len(comparison.models)
    over = f", on average over {models} models," if models > 1 else ""
    return (
        f"With {comparison.change}, accuracy on {comparison.task} "
        f"({comparison.format} format){over} changed by {points(contrast.mean_related)} points "
        f"on average in the {contrast.n_related} related languages ({comparison.branch}: "
        f"{names}) and by {points(contrast.mean_control)} points in the {contrast.n_control} "
        f"control languages."
    )


def _contrast_sentence(comparison: Comparison) -> str:
    contrast = comparison.accuracy
    test = contrast.permutation
    kind = "exact permutation" if test.exact else "Monte Carlo permutation"
    jointly = " (in all models alike)" if len(comparison.models) > 1 else ""
    return (
        f"The relatedness contrast is {points(contrast.estimate)} points (95% interval "
        f"{interval_points(test.interval_95)}; p {p_value(test.p)} by {kind} of the language "
        f"labels{jointly}, {test.relabellings:,} relabellings)."
    )


def _verdict_sentences(comparison: Comparison) -> Iterable[str]:
    contrast = comparison.accuracy
    test, margin = contrast.permutation, comparison.margin
    allowed = f"±{points(margin, signed=False)} points"
    ninety = f"the 90% interval {interval_points(test.interval_90)}"
    yield f"Verdict: {contrast.verdict}."
    if contrast.verdict == "equivalent":
        agrees = contrast.tost_p is not None and contrast.tost_p <= 0.05
        yield (
            f"{ninety.capitalize()} lies within the equivalence margin of {allowed} (two one-sided "
            f"Welch tests {'agree' if agrees else 'do not confirm it'}, "
            f"p {p_value(contrast.tost_p or 0.0)}), so whatever relatives gain beyond controls, or "
            f"short of them, is smaller than the difference taken to matter."
        )
        if test.interval_95.excludes(0.0):
            way = "more" if contrast.estimate > 0 else "less"
            yield f"Within that margin, relatives did gain detectably {way}."
    elif contrast.verdict == "inconclusive":
        if not math.isfinite(test.interval_95.low):
            yield (
                f"With {contrast.n_related} related and {contrast.n_control} control languages "
                f"there are too few relabellings for any result to reach p = 0.05."
            )
        yield (
            f"The 95% interval includes zero and {ninety} reaches beyond the equivalence margin of "
            f"{allowed}: these runs show neither that relatives gain differently nor that they "
            f"gain alike, and the absence of a clear difference is not evidence of equal gains."
        )
    else:
        way = "more" if contrast.verdict == "related gain more" else "less"
        nearest = min(abs(end) for end in test.interval_95)
        beyond = "is" if nearest >= margin else "is not shown to be"
        yield (
            f"The 95% interval excludes zero: relatives gained {way} than controls, and the "
            f"difference {beyond} larger than the equivalence margin of {allowed}."
        )
        confirmed = "confirms it" if contrast.welch.p <= 0.05 else "does not confirm it"
        yield (
            f"Welch's test, which does not take both groups to be equally spread, {confirmed} "
            f"(p {p_value(contrast.welch.p)})."
        )


def _sensitivity_sentence(comparison: Comparison) -> str:
    effect = comparison.accuracy.minimum_detectable_effect
    if math.isnan(effect):
        return "Gains do not vary within either group, so no minimum detectable effect is defined."
    if math.isinf(effect):
        return "No difference, however large, could be detected."
    return (
        f"The minimum detectable effect is {points(effect, signed=False)} points (80% power, "
        f"two-sided 5%), given this many languages and the spread of "
        f"{points(comparison.accuracy.spread, signed=False)} points between them."
    )


def _seed_sentences(comparison: Comparison) -> Iterable[str]:
    if not comparison.condition.startswith("tuned"):
        return
    fewest = min(len(model.seeds) for model in comparison.models)
    for model in comparison.models if len(comparison.models) == 1 else ():
        if model.by_seed:
            each = ", ".join(points(value) for value in model.by_seed)
            yield f"By seed of the fine-tuning, the contrast is {each} points."
    if fewest < FEWEST_SEEDS:
        tuned = "one adapter" if fewest == 1 else f"{fewest} adapters"
        yield (
            f"It speaks of {tuned}{' a model' if len(comparison.models) > 1 else ''}: how far "
            f"another seed of the fine-tuning would move it is not known; use at least "
            f"{FEWEST_SEEDS} for a claim."
        )


def _everyone_sentences(comparison: Comparison) -> Iterable[str]:
    rows = comparison.languages
    overall = comparison.overall
    everyone = overall.means["all"]
    won = sum(row.gain > 0 and row.holm_p <= 0.05 for row in rows)
    lost = sum(row.gain < 0 and row.holm_p <= 0.05 for row in rows)
    risen = {
        name: f"{sum(row.gain > 0 for row in overall.members(name))} of {mean.languages}"
        for name, mean in overall.means.items()
    }
    yield (
        f"Over all {len(rows)} languages evaluated, mean accuracy went from "
        f"{points(everyone.base, signed=False)}% to {points(everyone.tuned, signed=False)}% "
        f"({points(everyone.gain)} points); it rose in {risen['related']} related and "
        f"{risen['control']} control languages, and language by language {won} rose and {lost} "
        f"fell by more than chance explains (Holm-adjusted p ≤ 0.05)."
    )
    apart = []
    if "source" in overall.means:
        gain = overall.means["source"].gain
        apart.append(f"{comparison.source_name} itself changed by {points(gain)} points")
    if "variety" in overall.means:
        mean = overall.means["variety"]
        varieties = f"{mean.languages} {'variety' if mean.languages == 1 else 'varieties'}"
        whose = f"its {varieties}" if apart else f"{varieties} of {comparison.source_name}"
        apart.append(f"{whose} changed by {points(mean.gain)} points")
    if apart:
        yield f"Outside the contrast, {' and '.join(apart)}."
    shares = [
        (row.base_valid, row.tuned_valid)
        for row in rows
        if row.base_valid is not None and row.tuned_valid is not None
    ]
    if len(shares) == len(rows):
        before, after = np.mean(shares, axis=0)
        yield (
            f"Answers that were one of the choices at all went from "
            f"{points(before, signed=False)}% to {points(after, signed=False)}%."
        )
    if parts := mean_parts(rows):
        yield (
            f"Counting answers that are no choice as wrong, accuracy changed by "
            f"{points(parts['gain_free'])} points on average: {points(parts['gain_format'])} by "
            f"format (how far answers as given fall short of forced choices) and "
            f"{points(parts['gain_comprehension'])} by comprehension (the choice when forced)."
        )
