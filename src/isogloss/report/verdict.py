"""The verdict of a comparison in a paragraph: what it is, what it rests on, how far it reaches.

"No evidence of" is never worded as "evidence of no".
"""

import math
from collections.abc import Iterable

import numpy as np

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import mean_gain_parts
from isogloss.formatting import interval_points, p_value, points
from isogloss.types import Group

FEWEST_SEEDS = 3


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


def _groups_sentence(comparison: Comparison) -> str:
    contrast = comparison.contrast
    names = ", ".join(sorted(row.name for row in comparison.overall.members(Group.RELATED)))
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
    contrast = comparison.contrast
    test = contrast.permutation
    kind = "exact permutation" if test.exact else "Monte Carlo permutation"
    jointly = " (in all models alike)" if len(comparison.models) > 1 else ""
    return (
        f"The relatedness contrast is {points(contrast.estimate)} points (95% interval "
        f"{interval_points(test.interval_95)}; p {p_value(test.p)} by {kind} of the language "
        f"labels{jointly}, {test.relabellings:,} relabellings)."
    )


def _verdict_sentences(comparison: Comparison) -> Iterable[str]:
    contrast = comparison.contrast
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
    effect = comparison.contrast.minimum_detectable_effect
    if math.isnan(effect):
        return "Gains do not vary within either group, so no minimum detectable effect is defined."
    if math.isinf(effect):
        return "No difference, however large, could be detected."
    return (
        f"The minimum detectable effect is {points(effect, signed=False)} points (80% power, "
        f"two-sided 5%), given this many languages and the spread of "
        f"{points(comparison.contrast.spread, signed=False)} points between them."
    )


def _seed_sentences(comparison: Comparison) -> Iterable[str]:
    if not comparison.condition.startswith("tuned"):
        return
    fewest = min(len(model.seeds) for model in comparison.models)
    for model in comparison.models if len(comparison.models) == 1 else ():
        if model.contrast_by_seed:
            each = ", ".join(points(value) for value in model.contrast_by_seed)
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
    everyone = overall.mean
    won = sum(row.gain > 0 and row.holm_p <= 0.05 for row in rows)
    lost = sum(row.gain < 0 and row.holm_p <= 0.05 for row in rows)
    risen = {
        name: f"{sum(row.gain > 0 for row in overall.members(name))} of {mean.languages}"
        for name, mean in overall.group_means.items()
    }
    yield (
        f"Over all {len(rows)} languages evaluated, mean accuracy went from "
        f"{points(everyone.before, signed=False)}% to {points(everyone.after, signed=False)}% "
        f"({points(everyone.gain)} points); it rose in {risen[Group.RELATED]} related and "
        f"{risen[Group.CONTROL]} control languages, and language by language {won} rose and {lost} "
        f"fell by more than chance explains (Holm-adjusted p ≤ 0.05)."
    )
    apart = []
    if Group.SOURCE in overall.group_means:
        gain = overall.group_means[Group.SOURCE].gain
        apart.append(f"{comparison.source_name} itself changed by {points(gain)} points")
    if Group.VARIETY in overall.group_means:
        mean = overall.group_means[Group.VARIETY]
        varieties = f"{mean.languages} {'variety' if mean.languages == 1 else 'varieties'}"
        whose = f"its {varieties}" if apart else f"{varieties} of {comparison.source_name}"
        apart.append(f"{whose} changed by {points(mean.gain)} points")
    if apart:
        yield f"Outside the contrast, {' and '.join(apart)}."
    shares = [
        (row.before_valid, row.after_valid)
        for row in rows
        if row.before_valid is not None and row.after_valid is not None
    ]
    if len(shares) == len(rows):
        before, after = np.mean(shares, axis=0)
        yield (
            f"Answers that were one of the choices at all went from "
            f"{points(before, signed=False)}% to {points(after, signed=False)}%."
        )
    if parts := mean_gain_parts(rows):
        yield (
            f"Counting answers that are no choice as wrong, accuracy changed by "
            f"{points(parts['gain_free'])} points on average: {points(parts['gain_format'])} by "
            f"format (how far answers as given fall short of forced choices) and "
            f"{points(parts['gain_comprehension'])} by comprehension (the choice when forced)."
        )
