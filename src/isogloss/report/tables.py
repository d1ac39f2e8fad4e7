"""Tables of a report as text, from the same estimates as contrasts.csv."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.estimates import Estimate, EstimateKind, Regression, estimates
from isogloss.analysis.gains import ConditionGains, GroupMean
from isogloss.formatting import decimal, interval_points, listed, p_value, points, sentence
from isogloss.report.style import model_labels
from isogloss.types import Interval, Measure

MEASURES = {
    Measure.ACCURACY: "Accuracy, points",
    Measure.LOG_ODDS: "Accuracy, log-odds",
    Measure.GOLD_LOGPROB: "Gold log-probability, nats",
}


class Table(NamedTuple):
    """Headings and cells as text; the first column is a label, the rest are numbers or `words`.

    `key` is its address in the page.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: bool = False

    @property
    def key(self) -> str:
        """What the page links to."""
        return self.title.lower().replace(" ", "-")


def tables(comparison: Comparison) -> list[Table]:
    """The tables, without those that these runs have nothing for."""
    by_kind: dict[EstimateKind, list[Estimate]] = defaultdict(list)
    for each in estimates(comparison):
        by_kind[each.kind].append(each)
    made = [
        *_contrast_tables(comparison, by_kind[EstimateKind.CONTRAST]),
        _seed_table(
            [each for each in by_kind[EstimateKind.SEED] if each.condition == comparison.condition]
        ),
        _adjusted_table(by_kind[EstimateKind.ADJUSTED]),
        _double_table(comparison, by_kind[EstimateKind.DOUBLE_DIFFERENCE]),
        _distance_table(by_kind[EstimateKind.DISTANCE]),
        _slope_table(by_kind[EstimateKind.SLOPE]),
        _together_table(by_kind[EstimateKind.DIFFERENCE]),
        _group_table(comparison),
        _gain_table(comparison),
        *([_model_table(comparison)] if len(comparison.models) > 1 else []),
        _further_table(comparison),
    ]
    return [table for table in made if table.rows]


def names_table(comparison: Comparison) -> Table | None:
    """Names of models that figures shorten or cannot show."""
    shown = model_labels(comparison) if len(comparison.models) > 1 else {}
    named = [[label.replace(r"\$", "$"), name] for name, label in shown.items()]
    rows = [row for row in named if row[0] != row[1]]
    return Table("Names in figures", ("In figures", "Model"), rows, words=True) if rows else None


def _p(p: float) -> str:
    """A p value for a cell; empty where there is none."""
    return "" if math.isnan(p) else p_value(p).removeprefix("= ")


def _contrast_tables(comparison: Comparison, found: Sequence[Estimate]) -> list[Table]:
    """The judged condition by measure, each of several models, and the other conditions."""
    whole = comparison.overall.label
    mine = [each for each in found if each.condition == comparison.condition]
    others = [each for each in found if each.condition != comparison.condition]
    alike = f", {whole}, relabelled alike in all" if len(comparison.models) > 1 else ""
    return [
        _contrast_table(
            "Relatedness contrast",
            "Measure",
            [(MEASURES[Measure(each.measure)], each) for each in mine if each.model == whole],
            f"Condition {comparison.condition} against {comparison.against}{alike}.",
        ),
        _contrast_table(
            "Contrast by model",
            "Model",
            [
                (each.model, each)
                for each in mine
                if each.measure == Measure.ACCURACY and each.model != whole
            ],
            "Accuracy, points; p adjusted over models by Holm's method.",
        ),
        _contrast_table(
            "Contrast in other conditions",
            "Condition",
            [
                (each.condition, each)
                for each in others
                if each.measure == Measure.ACCURACY
                and each.model == comparison.conditions[each.condition].overall.label
            ],
            f"Accuracy, points; each condition against {comparison.against}.",
        ),
    ]


def _contrast_table(
    title: str, label: str, rows: Sequence[tuple[str, Estimate]], note: str
) -> Table:
    adjusted = any(math.isfinite(each.holm_p) for _, each in rows)
    return Table(
        title,
        (
            *(label, "Related −\u00a0control", "95% interval", "p"),
            *(["p, Holm"] if adjusted else []),
            *("Verdict", "Minimum detectable effect", "90% interval", "p, equivalence"),
            *("95% interval, Welch", "p, Welch"),
        ),
        [
            [
                name,
                each.text(each.estimate),
                each.interval(each.low_95, each.high_95),
                _p(each.p),
                *([_p(each.holm_p)] if adjusted else []),
                each.verdict,
                each.text(each.minimum_detectable_effect).removeprefix("+"),
                each.interval(each.low_90, each.high_90),
                _p(each.tost_p),
                each.interval(each.welch_low_95, each.welch_high_95),
                _p(each.welch_p),
            ]
            for name, each in rows
        ],
        note,
    )


def _seed_table(found: Sequence[Estimate]) -> Table:
    """A row a model, a column a seed."""
    seeds = sorted({each.detail for each in found})
    by_model: dict[str, dict[str, Estimate]] = {}
    for each in found:
        by_model.setdefault(each.model, {})[each.detail] = each
    return Table(
        "Contrast by seed",
        ("Model", *(f"Seed {seed}" for seed in seeds), "Standard deviation"),
        [
            [
                model,
                *(mine[seed].text(mine[seed].estimate) if seed in mine else "" for seed in seeds),
                points(
                    float(np.std([each.estimate for each in mine.values()], ddof=1)), signed=False
                ),
            ]
            for model, mine in by_model.items()
        ],
        "Related − control, points.",
    )


def _adjusted_table(found: Sequence[Estimate]) -> Table:
    return Table(
        "Adjusted contrast",
        ("Held equal", "Related −\u00a0control, points", "95% interval", "p", "Note"),
        [
            [
                listed(each.detail.split("; ")),
                each.text(each.estimate),
                "" if each.problem else each.interval(each.low_95, each.high_95),
                _p(each.p),
                sentence(each.problem),
            ]
            for each in found
        ],
        "Freedman and Lane's permutation test.",
    )


def _double_table(comparison: Comparison, found: Sequence[Estimate]) -> Table:
    return Table(
        "Double difference",
        (
            *("Control source", "Difference, points", "95% interval", "p", "90% interval"),
            *("Verdict", "Related languages", "Control languages"),
        ),
        [
            [
                f"{source.name} ({source.code})",
                each.text(each.estimate),
                each.interval(each.low_95, each.high_95),
                _p(each.p),
                each.interval(each.low_90, each.high_90),
                each.verdict,
                str(each.related),
                str(each.control),
            ]
            for source, each in zip(comparison.double_differences, found, strict=True)
        ],
        f"What relatives of {comparison.source_name} gain from it beyond what they gain from the "
        f"control source, less the same of languages that are kin to neither.",
    )


def _distance_table(found: Sequence[Estimate]) -> Table:
    rows = []
    for each in found:
        if each.measure == Regression.RANKS:
            shown = ["Rank correlation of gain and distance", decimal(each.correlation, 2), ""]
        else:
            interval = each.interval(each.low_95, each.high_95)
            shown = ["Slope, points for the whole distance", each.text(each.estimate), interval]
        rows.append([*shown, _p(each.p), str(each.units)])
    return Table(
        "Genealogical distance",
        ("Measure", "Estimate", "95% interval", "p", "Languages"),
        rows,
        "Distance from the source in Glottolog's tree, from 0 to 1; related and control "
        "languages. Read the ranks: depths of branches are uneven.",
    )


def _together_table(found: Sequence[Estimate]) -> Table:
    return Table(
        "Tuning beside chain of thought",
        ("Over", "Tuned −\u00a0base+cot, points", "95% interval", "90% interval", "p"),
        [
            [
                f"{each.units} {each.detail}",
                each.text(each.estimate),
                each.interval(each.low_95, each.high_95),
                each.interval(each.low_90, each.high_90),
                _p(each.p),
            ]
            for each in found
        ],
    )


def _slope_table(found: Sequence[Estimate]) -> Table:
    def slope(value: float) -> str:
        return decimal(value, 2)

    def known(each: Estimate, value: float) -> str:
        bounded = math.isfinite(each.low_95) or math.isfinite(each.high_95)
        return slope(value if bounded else math.nan)

    return Table(
        "Slopes",
        (
            *("Slope", "Cross-fitted", "95% interval", "p", "Naive", "Correlation, cross-fitted"),
            *("Correlation, naive", "Correlation at equal baseline"),
        ),
        [
            [
                f"{each.measure[:1].upper()}{each.measure[1:]}, over {each.units} {each.detail}",
                known(each, each.estimate),
                f"[{slope(each.low_95)}, {slope(each.high_95)}]",
                _p(each.p),
                slope(each.naive),
                known(each, each.correlation),
                slope(each.naive_correlation),
                ""
                if each.measure == Regression.GAIN_ON_BASELINE
                else known(each, each.correlation_at_equal_baseline),
            ]
            for each in found
        ],
        "In points a point. The naive slope holds the noise that both sides share; n/a: the "
        "values differ hardly more than sampling noise makes them.",
    )


def _group_table(comparison: Comparison) -> Table:
    return Table(
        "Means by group",
        ("Group", "Languages", "Gain, points", "Before, %", "After, %"),
        [
            [
                name,
                str(mean.languages),
                points(mean.gain),
                points(mean.before, signed=False),
                points(mean.after, signed=False),
            ]
            for name, mean in _all_means(comparison.overall).items()
        ],
    )


def _all_means(gains: ConditionGains) -> dict[str, GroupMean]:
    """Means over all languages and over each group, by name."""
    return {"all": gains.mean} | {str(group): mean for group, mean in gains.group_means.items()}


def _gain_table(comparison: Comparison) -> Table:
    return Table(
        "Gains by language",
        (
            *("Language", "Gain, points", "95% interval", "p, Holm", "Group", "Before, %"),
            *("After, %", "p", "Items", "Passages", "Branch"),
        ),
        [
            [
                f"{row.name} ({row.code})",
                points(row.gain),
                interval_points(Interval(row.low, row.high)),
                _p(row.holm_p),
                row.group,
                points(row.before, signed=False),
                points(row.after, signed=False),
                _p(row.p),
                str(row.n),
                str(row.passages),
                row.branch,
            ]
            for row in comparison.languages
        ],
    )


def _model_table(comparison: Comparison) -> Table:
    by_model = [model.gain_by_code for model in comparison.models]
    return Table(
        "Gains by model",
        ("Language", *(model.label for model in comparison.models)),
        [
            [f"mean, {name}", *(points(mean.gain) for mean in means)]
            for name, *means in zip(
                _all_means(comparison.overall),
                *(_all_means(model).values() for model in comparison.models),
                strict=True,
            )
        ]
        + [
            [f"{row.name} ({row.code})", *(points(gains[row.code]) for gains in by_model)]
            for row in comparison.languages
        ],
        "Points.",
    )


def _further_table(comparison: Comparison) -> Table:
    """What else was measured by language; columns that nothing is known of are left out."""

    def share(value: float | None, signed: bool = True) -> str:
        return "" if value is None else points(value, signed=signed)

    headings = (
        *("Language", "Log-odds", "Gold log-probability, nats", "Valid before, %"),
        *("Valid after, %", "As given, points", "by format", "by comprehension"),
    )
    rows = [
        [
            f"{row.name} ({row.code})",
            decimal(row.log_odds_gain, 2),
            "" if row.gold_logprob_gain is None else decimal(row.gold_logprob_gain, 3),
            share(row.before_valid, signed=False),
            share(row.after_valid, signed=False),
            share(row.free_gain),
            share(row.format_part),
            share(row.comprehension_part),
        ]
        for row in comparison.languages
    ]
    kept = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    return Table(
        "Further measures by language",
        [headings[at] for at in kept],
        [[row[at] for at in kept] for row in rows],
        "Gains, and shares of answers that were one of the choices.",
    )
