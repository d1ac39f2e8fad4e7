"""The crossed design in words and tables: does a target gain more from a related source?

"No evidence of" is never worded as "evidence of no".
"""

import math
from collections.abc import Iterator, Sequence

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed import CrossedComparison, DyadicCovariate
from isogloss.analysis.crossed_sensitivity import MIN_RELATED_BRANCHES
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.formatting import interval_points, listed, p_value, points, sentence
from isogloss.languages import source_name
from isogloss.report.crossed_sensitivity import (
    decisive_sources,
    sensitivity_lines,
    sensitivity_tables,
)
from isogloss.report.effect_cells import (
    EFFECT_HEADINGS,
    bounds,
    detectable_text,
    effect_cells,
)
from isogloss.report.evidence import relative_margin_text
from isogloss.report.omissions import omission_sentence
from isogloss.report.table import Table, p_text
from isogloss.stats.crossed import CrossedEffect
from isogloss.types import Verdict

ENOUGH_SOURCES = 6
FEWEST_SEEDS = 3  # of a source and model, for a claim

HEADLINES = {
    Verdict.EQUIVALENT: "targets gained as much from related as from unrelated sources, to within "
    "±{margin} points.",
    Verdict.RELATED_GAIN_MORE: "targets gained more from related than from unrelated sources.",
    Verdict.RELATED_GAIN_LESS: "targets gained less from related than from unrelated sources.",
    Verdict.INCONCLUSIVE: "these runs show neither that targets gain differently from related "
    "sources nor that they gain equally.",
}
UNITS = {DyadicCovariate.GEOGRAPHY: math.log(2)}  # of a covariate's own effect: twice as far
NO_VOCABULARY = (
    "Shared vocabulary is not known here: it needs the model's tokenizer and the evaluated data on "
    "the machine that compares."
)
NAMES = {
    DyadicCovariate.SCRIPT: "script",
    DyadicCovariate.GEOGRAPHY: "geographic distance",
    DyadicCovariate.VOCABULARY: "shared vocabulary",
}
ROBUST = (
    "it permutes nothing and takes errors as normal; with few sources it is usually the wider one"
)
LEFT_OUT = (OmissionReason.LOST_SOURCES, OmissionReason.SOURCES_NOT_CROSSED)


def crossed_headline(comparison: Comparison, crossed: CrossedComparison) -> str:
    """What the verdict of the crossed design means."""
    return HEADLINES[crossed.overall.verdict].format(margin=points(comparison.margin, signed=False))


def crossed_numbers(comparison: Comparison, crossed: CrossedComparison) -> str:
    """One sentence with estimate, interval, p and what they rest on."""
    effect, n_models = crossed.overall, len(crossed.averaged_models)
    models = f", mean of {n_models} models" if n_models > 1 else ""
    return (
        f"Over {effect.n_sources} sources and {effect.n_targets} targets ({comparison.task}, "
        f"{comparison.format} format{models}), with an effect for each source and each target, a "
        f"related source gives a target {points(effect.estimate)} points more gain than an "
        f"unrelated one ({effect_interval(effect)}, p {p_value(effect.p)}; {matchings(effect)})."
    )


def effect_interval(effect: CrossedEffect, level: int = 95) -> str:
    """An interval in words; without one, what it lacks."""
    interval = {95: effect.interval_95, 90: effect.interval_90}[level]
    if math.isinf(interval.low) and math.isinf(interval.high):
        return f"no {level}% interval: {effect.matchings} matchings are too few"
    return f"{level}% interval {interval_points(interval)}"


def matchings(effect: CrossedEffect) -> str:
    """The permutation test in words."""
    lowest = p_value(effect.lowest_p)
    if not effect.exact:
        return f"Monte Carlo over {effect.matchings:,} matchings of sources with relatives"
    return (
        f"exact over {effect.matchings:,} matchings of sources with relatives, lowest possible p "
        f"{lowest}"
    )


def crossed_lines(comparison: Comparison, crossed: CrossedComparison) -> Iterator[tuple[str, str]]:
    """Labelled lines on what the verdict of the crossed design rests on."""
    effect = crossed.overall
    if margin := relative_margin_text(comparison):
        yield "Margin", f"{margin}."
    yield "Equivalence", _equivalence(comparison, effect)
    yield "Sensitivity", _sensitivity(comparison, effect)
    if len(crossed.models) > 1:
        yield "Models", _models(crossed)
    if sources := _sources(comparison, crossed):
        yield "Sources", sources
    yield from sensitivity_lines(crossed)
    if line := _covariates(crossed):
        yield "At equal covariates", line
    yield "Robust interval", _robust(effect)
    yield "Seeds", _seeds(crossed)


def _seeds(crossed: CrossedComparison) -> str:
    number = "1 seed" if crossed.fewest_seeds == 1 else f"{crossed.fewest_seeds} seeds"
    text = f"{number} of each source and model, averaged"
    if crossed.fewest_seeds < FEWEST_SEEDS:
        text += f"; the variance between seeds is not known, a claim needs at least {FEWEST_SEEDS}"
    return f"{text}."


def crossed_line(crossed: CrossedComparison) -> str:
    """The effect over sources that are too few for a verdict, in one sentence."""
    effect = crossed.overall
    return (
        f"over {effect.n_sources} sources, a related source gives a target "
        f"{points(effect.estimate)} points more gain than an unrelated one (p "
        f"{p_value(effect.p)}, lowest possible {p_text(effect.lowest_p)}); {no_verdict(effect)}."
    )


def no_verdict(effect: CrossedEffect) -> str:
    """Why a crossed design has no verdict on kinship: too few branches, or too few matchings."""
    if effect.n_related_branches < MIN_RELATED_BRANCHES:
        return (
            f"a verdict on kinship needs sources of at least {MIN_RELATED_BRANCHES} branches with "
            f"relatives among the targets, and here {effect.n_related_branches} have them"
        )
    return (
        f"a verdict on kinship needs a p of 0.05 or less to be possible, and sources with the same "
        f"relatives leave only {effect.matchings} different matchings"
    )


def _robust(effect: CrossedEffect) -> str:
    if math.isinf(effect.robust.low):
        return "none, there are too few cells for it."
    text = f"{interval_points(effect.robust)}, clustered by source and by target; {ROBUST}"
    if effect.interval_95.excludes(0.0) and not effect.robust.excludes(0.0):
        text += "; it holds zero: a test based on it would not have found this effect"
    return f"{text}."


def _equivalence(comparison: Comparison, effect: CrossedEffect) -> str:
    margin = points(comparison.margin, signed=False)
    interval = effect_interval(effect, 90)
    if math.isinf(effect.interval_90.low):
        return f"not testable, {interval}."
    tost_p = f" (p {p_value(effect.equivalence_p)})" if effect.equivalence_p is not None else ""
    if claim_verdicts(comparison).obstacle:
        return f"not judged, nothing to compare ({interval}, margin ±{margin} points)."
    if effect.verdict == Verdict.EQUIVALENT:
        text = (
            f"shown, the {interval} and the robust one, {interval_points(effect.robust_90)}, lie "
            f"within ±{margin} points{tost_p}"
        )
        if effect.interval_95.excludes(0.0):
            way = "more" if effect.estimate > 0 else "less"
            text += f"; within the margin, targets gain detectably {way} from related sources"
        return f"{text}."
    low, high = effect.interval_90
    if effect.interval_90.inside(comparison.margin):
        return (
            f"not shown, the {interval} lies within ±{margin} points, but the robust one, "
            f"{interval_points(effect.robust_90)}, does not{tost_p}."
        )
    apart = min(abs(low), abs(high)) > comparison.margin and low * high > 0
    text = f"not shown, the {interval} {'lies' if apart else 'extends'} beyond ±{margin} points"
    text += tost_p
    if effect.verdict == Verdict.INCONCLUSIVE:
        return f"{text}; the absence of a clear difference is not evidence of equal gains."
    nearest = min(abs(end) for end in effect.interval_95)
    is_larger = "is" if nearest >= comparison.margin else "is not shown to be"
    return f"{text}; the effect {is_larger} larger than this margin."


def _sensitivity(comparison: Comparison, effect: CrossedEffect) -> str:
    detectable = effect.minimum_detectable
    if not math.isfinite(detectable):
        return (
            f"no effect, however large, reaches p = 0.05 with {effect.matchings} different "
            f"matchings of sources with relatives."
        )
    text = f"minimum detectable effect {points(detectable, signed=False)} points (80% power)"
    if effect.verdict == Verdict.INCONCLUSIVE and detectable > comparison.margin:
        text += ", more than the margin: more sources, items or seeds would find smaller ones"
    if effect.interval_95.excludes(0.0) and abs(effect.estimate) < detectable:
        text += "; an effect that is found below it tends to be exaggerated"
    return f"{text}."


def _models(crossed: CrossedComparison) -> str:
    positive = sum(model.effect.estimate > 0 for model in crossed.models)
    found = sum(model.holm_p <= 0.05 for model in crossed.models)
    return (
        f"positive in {positive} of {len(crossed.models)}, p ≤ 0.05 after Holm's adjustment in "
        f"{found}."
    )


def _sources(comparison: Comparison, crossed: CrossedComparison) -> str:
    effects = [source.effect.estimate for source in crossed.sources if source.effect]
    parts = []
    if effects:
        positive = sum(estimate > 0 for estimate in effects)
        parts.append(
            f"the effect of kinship is positive for {positive} of {len(effects)} sources, "
            f"{points(min(effects))} to {points(max(effects))} points"
        )
    left_out = [code for omission in _left_out(comparison) for code in omission.sources]
    if left_out:
        names = listed([source_name(code) for code in dict.fromkeys(left_out)])
        parts.append(f"left out: {names} (the table of effects by source says why)")
    return f"{'; '.join(parts)}." if parts else ""


def _left_out(comparison: Comparison) -> list[Omission]:
    """Why sources of the runs or of the study are not in the crossed design."""
    return [omission for omission in comparison.omissions if omission.reason in LEFT_OUT]


def _covariates(crossed: CrossedComparison) -> str:
    done = [
        (each.covariates, each.effect) for each in crossed.adjustments if each.effect is not None
    ]
    if not done:
        return ""
    covariates, effect = done[-1]
    adds = "adds to them" if effect.interval_95.excludes(0.0) else "adds nothing detectable to them"
    return (
        f"a check, the effect of {points(crossed.overall.estimate)} points counts: at equal "
        f"{held_equal(covariates)}, kinship is worth {points(effect.estimate)} points "
        f"({effect_interval(effect)}, p {p_value(effect.p)}); it {adds}."
    )


def held_equal(covariates: Sequence[DyadicCovariate]) -> str:
    """Covariates as they read after "at equal"."""
    return listed([NAMES[covariate] for covariate in covariates])


def crossed_steps(comparison: Comparison, crossed: CrossedComparison) -> list[str]:
    """What would settle the question of kinship, or carry the answer further."""
    effect, steps = crossed.overall, []
    if (
        effect.n_related_branches < ENOUGH_SOURCES
        and crossed.overall.verdict == Verdict.INCONCLUSIVE
    ):
        steps.append(
            f"at least {ENOUGH_SOURCES} sources of different branches, each with relatives among "
            "the targets"
        )
    if crossed.fewest_seeds < FEWEST_SEEDS:
        steps.append(f"at least {FEWEST_SEEDS} seeds of each source")
    if effect.verdict != Verdict.INCONCLUSIVE and decisive_sources(crossed):
        steps.append("more sources, so that the verdict needs no single one of them")
    if (
        crossed.overall.verdict == Verdict.INCONCLUSIVE
        and effect.minimum_detectable > comparison.margin
    ):
        steps.append("more items or sources (`plan` computes how many)")
    return steps


def crossed_tables(comparison: Comparison) -> list[Table]:
    """The effect overall, by source, by model, and with covariates held equal."""
    crossed = comparison.crossed
    if crossed is None:
        return []
    return [
        _overall_table(comparison, crossed),
        _source_table(comparison, crossed),
        *sensitivity_tables(crossed),
        _model_table(crossed),
        _covariate_table(crossed),
    ]


def _overall_table(comparison: Comparison, crossed: CrossedComparison) -> Table:
    effect = crossed.overall
    verdict = claim_verdicts(comparison).kinship if crossed.tests_kinship else "none"
    rows = [["Related source, 0 or 1", *effect_cells(effect, verdict)]]
    if crossed.graded is not None:
        rows.append(["Degree of kinship, 0 to 1", *effect_cells(crossed.graded)])
    unit = "points"
    if crossed.ability is not None:
        unit = "points, on the scale of ability in logits"
        rows.append(
            ["On a scale of ability, logits", *effect_cells(crossed.ability, scale=1.0, digits=2)]
        )
    return Table(
        "Effect of kinship over all sources",
        ("Kinship", *EFFECT_HEADINGS),
        rows,
        f"In {unit}; {matchings(effect)}. A degree of kinship is one minus the genealogical "
        "distance. Targets that are a source, or a variety of one, are left out."
        + ("" if crossed.tests_kinship else f" No verdict: {no_verdict(effect)}."),
    )


def _source_table(comparison: Comparison, crossed: CrossedComparison) -> Table:
    rows, lowest = [], ""
    for source in crossed.sources:
        effect = source.effect
        values = [""] * 5
        if effect is not None:
            lowest = f", so it is at least {p_text(effect.lowest_p)}"
            values = [
                *map(points, (effect.estimate, effect.others, effect.difference)),
                bounds(effect.interval_95),
                p_text(effect.p),
            ]
        name = f"{source.name} ({source.code})"
        rows.append([name, source.branch, str(len(source.relatives)), *values])
    return Table(
        "Effect of kinship by source",
        (
            *("Source", "Branch", "Relatives", "Effect", "Mean of the others", "Difference"),
            *("95% interval of the difference", "p"),
        ),
        rows,
        f"In points. p is the share of sources whose effect is at least as far from the "
        f"mean{lowest}; the interval assumes that effects of sources are normal."
        + "".join(f" {omission_sentence(omission)}" for omission in _left_out(comparison))
        + (
            f" The row of {comparison.source_name} says whether it is special."
            if comparison.source in {source.code for source in crossed.sources}
            else ""
        ),
    )


def _model_table(crossed: CrossedComparison) -> Table:
    several = len(crossed.models) > 1
    return Table(
        "Effect of kinship by model",
        ("Model", "Effect", "95% interval", "p", "p, Holm", "Minimum detectable effect"),
        [
            [
                model.model, points(model.effect.estimate), bounds(model.effect.interval_95),
                p_text(model.effect.p), p_text(model.holm_p), detectable_text(model.effect),
            ]
            for model in crossed.models
            if several
        ],
        "In points; p adjusted for the number of models by Holm's method.",
    )  # fmt: skip


def _covariate_table(crossed: CrossedComparison) -> Table:
    known = any(DyadicCovariate.VOCABULARY in each.covariates for each in crossed.adjustments)
    unadjusted = crossed.overall
    rows = [
        ["Nothing", points(unadjusted.estimate), bounds(unadjusted.interval_95),
         p_text(unadjusted.p), "", ""]
    ]  # fmt: skip
    for each in crossed.adjustments:
        effect = each.effect
        values = (
            ["", "", ""]
            if effect is None
            else [points(effect.estimate), bounds(effect.interval_95), p_text(effect.p)]
        )
        slopes = effect.slopes if effect else {}
        own = "; ".join(
            f"{NAMES[name]} {points(UNITS.get(name, 1.0) * slopes[name])}"
            for name in each.covariates
            if slopes
        )
        rows.append([sentence(held_equal(each.covariates)), *values, own, sentence(each.problem)])
    return Table(
        "Kinship at equal script, distance and vocabulary",
        ("Held equal", "Effect of kinship", "95% interval", "p", "Their own effects", "Note"),
        rows if crossed.adjustments else [],
        "In points, for a related source against an unrelated one with the same values of the "
        "covariates. Their own effects are those of the same script, of twice the distance, and of "
        "a vocabulary that is wholly shared instead of not at all."
        + ("" if known else f" {NO_VOCABULARY}"),
    )
