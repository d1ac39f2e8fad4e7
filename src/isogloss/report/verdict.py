"""The verdict of a comparison: a few sentences, then short labelled lines on what it rests on.

"No evidence of" is never worded as "evidence of no".
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from isogloss.analysis.adjusted_contrast import Covariate
from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed import CrossedComparison
from isogloss.analysis.gains import mean_gain_parts
from isogloss.formatting import interval_points, listed, p_value, points, sentence
from isogloss.languages import source_branch, source_name
from isogloss.report.checks import check_lines, one_option_line
from isogloss.report.crossed import (
    FEWEST_SEEDS,
    crossed_headline,
    crossed_line,
    crossed_lines,
    crossed_numbers,
)
from isogloss.report.evidence import (
    FEWEST_FOR_WELCH,
    contrast_evidence,
    missing_interval,
    relative_margin_text,
)
from isogloss.report.kinship import family_line, kinship_caveat, kinship_headline
from isogloss.report.next_steps import (
    ALPHA,
    fewest_controls,
    fewest_seeds,
    next_steps,
)
from isogloss.report.plan_command import plan_command
from isogloss.report.published import published_line
from isogloss.report.quick_look import (
    NAME,
    WITH_COMMAND,
    WITHOUT_COMMAND,
    quick_headline,
    quick_numbers,
)
from isogloss.stats.power import spread_for_equivalence
from isogloss.types import Group, Verdict

DOUBLE_DIFFERENCES = {
    Verdict.EQUIVALENT: "no difference beyond ±{margin} points",
    Verdict.RELATED_GAIN_MORE: "relatives gain more from {source} than these languages do",
    Verdict.RELATED_GAIN_LESS: "relatives gain less from {source} than these languages do",
    Verdict.INCONCLUSIVE: "no difference seen",
}
FALSE_POSITIVES = (
    "Where gains correlate within families, such a difference finds an effect that is not there in "
    "13% of studies."
)
SEEDS = (
    "seeds show how far these adapters vary; a few of them do not average out an effect that each "
    "seed has on all relatives at once"
)


class Line(NamedTuple):
    """A short labelled line."""

    label: str
    text: str


class Summary(NamedTuple):
    """The answer, why, and what next; then labelled details.

    `headline` follows the name of the verdict and says in one sentence what it means. `numbers` are
    what it rests on, with the caveat to it if there is one. `command` is the call of `plan` that
    works out the next steps; empty where a plan would not. Of a quick look, which has no answer,
    `numbers` is empty, and `command` the one without quick.
    """

    verdict: str
    headline: str
    numbers: str
    next_steps: str
    command: str
    details: Sequence[Line]


def summary(comparison: Comparison, run_id: str = "") -> Summary:
    """The verdict and what it rests on: the crossed design where sources are enough for it.

    Of a quick look, that it is none. `run_id` is that of the compare run, if there is one.
    """
    full = _full_summary(comparison, run_id)
    look = comparison.quick
    if look is None:
        return full
    numbers = Line("These numbers", quick_numbers(full.verdict, full.headline, full.numbers))
    return Summary(
        verdict=NAME,
        headline=quick_headline(comparison, look),
        numbers="",
        next_steps=WITH_COMMAND if look.command else WITHOUT_COMMAND,
        command=look.command,
        details=[numbers, *full.details],
    )


def _full_summary(comparison: Comparison, run_id: str) -> Summary:
    verdicts = claim_verdicts(comparison)
    if crossed := comparison.decisive:
        return Summary(
            verdict=sentence(verdicts.kinship),
            headline=kinship_headline(comparison, verdicts)
            if verdicts.obstacle
            else crossed_headline(comparison, crossed),
            numbers=crossed_numbers(comparison, crossed),
            next_steps=next_steps(comparison),
            command=plan_command(comparison, run_id),
            details=[Line(label, text) for label, text in _crossed_details(comparison, crossed)],
        )
    return Summary(
        verdict=sentence(verdicts.kinship),
        headline=kinship_headline(comparison, verdicts),
        numbers=f"{_numbers(comparison)} {kinship_caveat(comparison, verdicts)}".strip(),
        next_steps=next_steps(comparison),
        command=plan_command(comparison, run_id),
        details=[Line(label, text) for label, text in _details(comparison)],
    )


def _numbers(comparison: Comparison) -> str:
    contrast = comparison.contrast
    models = f", mean of {len(comparison.models)} models" if len(comparison.models) > 1 else ""
    test = (
        "exact permutation test" if contrast.permutation.exact else "Monte Carlo permutation test"
    )
    return (
        f"With {comparison.change}, the mean gain on {comparison.task} ({comparison.format} "
        f"format{models}) is {points(contrast.mean_related)} points in {contrast.n_related} "
        f"related ({comparison.branch}) and {points(contrast.mean_control)} points in "
        f"{contrast.n_control} control languages: a contrast of {points(contrast.estimate)} points "
        f"({contrast_evidence(contrast)}, {test})."
    )


def _details(comparison: Comparison) -> Iterator[tuple[str, str]]:
    yield "Gain everywhere", _gain_everywhere(comparison)
    if outside := _outside_the_contrast(comparison):
        yield "Outside the contrast", outside
    if margin := relative_margin_text(comparison):
        yield "Margin", f"{margin}."
    yield "Equivalence", _equivalence(comparison)
    yield "Sensitivity", _sensitivity(comparison)
    yield "Families", family_line(comparison)
    if welch := _welch(comparison):
        yield "Welch's t test", welch
    if comparison.condition.tuned:
        yield "Seeds", _seeds(comparison)
    if adjusted := _adjusted(comparison):
        yield "Adjusted", adjusted
    yield from check_lines(comparison)
    if comparison.crossed:
        yield "All sources", crossed_line(comparison.crossed)
    yield from _control_sources(comparison)
    yield from _answers(comparison)
    yield "Published analysis", published_line(comparison)


def _crossed_details(
    comparison: Comparison, crossed: CrossedComparison
) -> Iterator[tuple[str, str]]:
    yield from crossed_lines(comparison, crossed)
    yield f"{comparison.source_name} alone", _numbers(comparison)
    yield f"Gain from {comparison.source_name}", _gain_everywhere(comparison)
    yield from _answers(comparison)


def _gain_everywhere(comparison: Comparison) -> str:
    rows, overall = comparison.languages, comparison.overall
    rose = sum(row.gain > 0 and row.holm_p <= ALPHA for row in rows)
    fell = sum(row.gain < 0 and row.holm_p <= ALPHA for row in rows)
    positive = [
        f"{sum(row.gain > 0 for row in members)} of {len(members)} {group}"
        for group in (Group.RELATED, Group.CONTROL)
        if (members := overall.members(group))
    ]
    return (
        f"{points(overall.mean.gain)} points on average over {len(rows)} languages (accuracy "
        f"{points(overall.mean.before, signed=False)}% to "
        f"{points(overall.mean.after, signed=False)}%), positive in {listed(positive)} languages; "
        f"significant gains in {rose}, losses in {fell} (Holm-adjusted p ≤ {ALPHA})."
    )


def _outside_the_contrast(comparison: Comparison) -> str:
    means = comparison.overall.group_means
    parts = []
    if Group.SOURCE in means:
        parts.append(f"{comparison.source_name} {points(means[Group.SOURCE].gain)} points")
    if Group.VARIETY in means:
        mean = means[Group.VARIETY]
        varieties = "1 variety" if mean.languages == 1 else f"{mean.languages} varieties"
        parts.append(f"{varieties} of it {points(mean.gain)} points")
    text = f"{listed(parts)}." if parts else ""
    if together := _varieties_together(comparison):
        text += f"{' ' if text else ''}{together}"
    return text


def _varieties_together(comparison: Comparison) -> str:
    """How many rows of the tables are varieties that count as one language; empty if none is."""
    rows = sum(row.group in (Group.RELATED, Group.CONTROL) for row in comparison.languages)
    counted = comparison.contrast.n_related + comparison.contrast.n_control
    if rows == counted:
        return ""
    return (
        f"Varieties and scripts of one language count once in the contrast: {rows} make {counted} "
        f"languages."
    )


def _equivalence(comparison: Comparison) -> str:
    contrast, margin = comparison.contrast, _margin(comparison)
    test = contrast.permutation
    if not math.isfinite(test.interval_90.low):
        return f"not testable, {missing_interval(contrast, 90)}."
    interval = f"90% interval {interval_points(test.interval_90)}"
    if claim_verdicts(comparison).obstacle:
        return f"not judged, nothing to compare ({interval}, margin ±{margin} points)."
    if contrast.verdict == Verdict.EQUIVALENT:
        text = f"shown, the {interval} lies within ±{margin} points"
        if contrast.tost_p is not None and _welch(comparison):
            text += f" (two one-sided Welch tests: p {p_value(contrast.tost_p)})"
        if test.interval_95.excludes(0.0):
            way = "more" if contrast.estimate > 0 else "less"
            text += f"; within the margin, relatives gain detectably {way}"
        return f"{text}."
    low, high = test.interval_90
    apart = min(abs(low), abs(high)) > comparison.margin and low * high > 0
    text = f"not shown, the {interval} {'lies' if apart else 'extends'} beyond ±{margin} points"
    if contrast.verdict == Verdict.INCONCLUSIVE:
        return f"{text}; the absence of a clear difference is not evidence of equal gains."
    nearest = min(abs(end) for end in test.interval_95)
    is_larger = "is" if nearest >= comparison.margin else "is not shown to be"
    return f"{text}; the difference {is_larger} larger than this margin."


def _sensitivity(comparison: Comparison) -> str:
    contrast, margin = comparison.contrast, comparison.margin
    effect = contrast.minimum_detectable_effect
    if math.isnan(effect):
        return "gains do not vary within the groups, so there is no minimum detectable effect."
    if math.isinf(effect):
        return (
            f"with so few languages no contrast, however large, reaches p = {ALPHA}; "
            f"{contrast.n_related} related languages need at least "
            f"{fewest_controls(contrast.n_related)} controls."
        )
    text = (
        f"minimum detectable effect {points(effect, signed=False)} points (80% power, two-sided "
        f"5%) at the observed spread of {points(contrast.spread, signed=False)} points between "
        f"languages"
    )
    if contrast.verdict == Verdict.INCONCLUSIVE:
        spread = spread_for_equivalence(contrast.n_related, contrast.n_control, margin)
        text += (
            f"; 80% power of equivalence needs a spread of {points(spread, signed=False)} points, "
            f"through more items or seeds"
        )
    elif contrast.verdict != Verdict.EQUIVALENT and abs(contrast.estimate) < effect:
        text += (
            "; a significant estimate below it exaggerates, usually 1.4 to 3 times (Gelman and "
            "Carlin 2014)"
        )
    return f"{text}."


def _welch(comparison: Comparison) -> str:
    """Welch's interval beside the permutation test; none with few languages in a group."""
    contrast = comparison.contrast
    if min(contrast.n_related, contrast.n_control) < FEWEST_FOR_WELCH:
        return ""
    return (
        f"95% interval {interval_points(contrast.welch.interval)}, p {p_value(contrast.welch.p)}; "
        f"it does not assume that both groups are equally spread, but that languages are "
        f"independent, as the permutation test does."
    )


def _seeds(comparison: Comparison) -> str:
    fewest = fewest_seeds(comparison)
    per_model = " per model" if len(comparison.models) > 1 else ""
    number = "1 seed" if fewest == 1 else f"{fewest} seeds"
    text = f"{number}{per_model}"
    if len(comparison.models) == 1 and comparison.overall.contrast_by_seed:
        by_seed = ", ".join(map(points, comparison.overall.contrast_by_seed))
        text += f", contrasts of {by_seed} points"
    if fewest < FEWEST_SEEDS:
        variance = "unknown" if fewest == 1 else "poorly known"
        text += f"; the between-seed variance is {variance}, a claim needs at least {FEWEST_SEEDS}"
    return f"{text}; {SEEDS}."


def _adjusted(comparison: Comparison) -> str:
    """The contrast with most held equal, as a check of the one that counts."""
    done = [
        (adjustment.covariates, adjustment.contrast)
        for adjustment in comparison.adjustments
        if adjustment.contrast is not None and not adjustment.extrapolates
    ]
    parts = []
    if done:
        covariates, contrast = done[-1]
        parts.append(
            f"a check, the contrast of {points(comparison.contrast.estimate)} points counts: "
            f"{points(contrast.estimate)} points at equal {listed(covariates)} (95% interval "
            f"{interval_points(contrast.interval)}, p {p_value(contrast.p)}, Freedman-Lane "
            f"permutation)"
        )
    parts += [
        f"not for the baseline, since {adjustment.problem.rstrip('.')}"
        for adjustment in comparison.adjustments
        if adjustment.covariates == (Covariate.BASELINE,) and adjustment.contrast is None
    ]
    beyond = [
        adjustment.covariates[0]
        for adjustment in comparison.adjustments
        if adjustment.extrapolates and len(adjustment.covariates) == 1
    ]
    if beyond:
        parts.append(
            f"not for {listed(beyond)}, in which related and control languages hardly overlap"
        )
    return f"{'; '.join(parts)}." if parts else ""


def _control_sources(comparison: Comparison) -> Iterator[tuple[str, str]]:
    source = comparison.source_name
    if comparison.condition.tuned and not comparison.other_sources:
        yield (
            "Second source",
            "none; one source cannot separate kinship from what the same languages gain from any "
            "source.",
        )
    elif comparison.condition.tuned and not comparison.double_differences:
        others = listed([source_name(code) for code in comparison.other_sources])
        yield "Second source", f"{others}; {_not_separated(comparison)}."
    for double in comparison.double_differences:
        meaning = DOUBLE_DIFFERENCES[double.contrast.verdict].format(
            source=source, margin=_margin(comparison)
        )
        yield (
            "Second source",
            f"double difference {points(double.contrast.estimate)} points "
            f"({contrast_evidence(double.contrast)}), gain from {source} minus gain from "
            f"{double.name}, in relatives of {source} against {double.contrast.n_control} "
            f"languages related to neither: {meaning}."
            + (f" {FALSE_POSITIVES}" if double is comparison.double_differences[-1] else ""),
        )


def _not_separated(comparison: Comparison) -> str:
    """Why no other source separates kinship from what the same languages gain from any source."""
    branches = {source_branch(code) for code in comparison.other_sources}
    if branches == {comparison.branch}:
        return f"another source of the same branch ({comparison.branch}) cannot separate kinship"
    return "too few languages are related to only one of these sources to separate kinship"


def _answers(comparison: Comparison) -> Iterator[tuple[str, str]]:
    if comparison.one_position:
        yield "One option", one_option_line(comparison)
    rows = comparison.languages
    shares = [
        (row.before_valid, row.after_valid)
        for row in rows
        if row.before_valid is not None and row.after_valid is not None
    ]
    if len(shares) == len(rows):
        before, after = (points(share, signed=False) for share in np.mean(shares, axis=0))
        yield "Valid answers", f"{before}% before, {after}% after."
    if parts := mean_gain_parts(rows):
        yield (
            "Format and comprehension",
            f"{points(parts['gain_free'])} points counting invalid answers as wrong: "
            f"{points(parts['gain_format'])} by format (gap between free answers and forced "
            f"choices), {points(parts['gain_comprehension'])} by comprehension (forced choices).",
        )


def _margin(comparison: Comparison) -> str:
    return points(comparison.margin, signed=False)
