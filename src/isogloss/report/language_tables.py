"""Tables of gains by group, language and model."""

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import ConditionGains, GroupMean
from isogloss.formatting import decimal, interval_points, points
from isogloss.report.style import model_labels
from isogloss.report.table import Table, language_name, p_text
from isogloss.types import Interval


def language_tables(comparison: Comparison) -> list[Table]:
    """Means by group, gains by language and by model, and further measures, in this order."""
    return [
        _group_table(comparison),
        _gain_table(comparison),
        *([_model_table(comparison)] if len(comparison.models) > 1 else []),
        _further_table(comparison),
    ]


def names_table(comparison: Comparison) -> Table | None:
    """Names of models that figures shorten or cannot draw; None where there are none."""
    labels = model_labels(comparison) if len(comparison.models) > 1 else {}
    rows = [
        [drawn, model]
        for model, label in labels.items()
        if (drawn := label.replace(r"\$", "$")) != model
    ]
    return Table("Names in figures", ("In figures", "Model"), rows, words=True) if rows else None


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


def _gain_table(comparison: Comparison) -> Table:
    return Table(
        "Gains by language",
        (
            *("Language", "Gain, points", "95% interval", "p, Holm", "Group", "Before, %"),
            *("After, %", "p", "Items", "Passages", "Branch"),
        ),
        [
            [
                language_name(row),
                points(row.gain),
                interval_points(Interval(row.low, row.high)),
                p_text(row.holm_p),
                row.group,
                points(row.before, signed=False),
                points(row.after, signed=False),
                p_text(row.p),
                str(row.n),
                str(row.passages),
                row.branch,
            ]
            for row in comparison.languages
        ],
    )


def _model_table(comparison: Comparison) -> Table:
    gains_by_model = [model.gain_by_code for model in comparison.models]
    means = [
        [f"mean, {name}", *(points(mean.gain) for mean in by_model)]
        for name, *by_model in zip(
            _all_means(comparison.overall),
            *(_all_means(model).values() for model in comparison.models),
            strict=True,
        )
    ]
    languages = [
        [language_name(row), *(points(gains[row.code]) for gains in gains_by_model)]
        for row in comparison.languages
    ]
    return Table(
        "Gains by model",
        ("Language", *(model.label for model in comparison.models)),
        means + languages,
        "Points.",
    )


def _further_table(comparison: Comparison) -> Table:
    """Measures besides accuracy; columns without any value are left out."""

    def share(value: float | None, signed: bool = True) -> str:
        return "" if value is None else points(value, signed=signed)

    headings = (
        *("Language", "Log-odds", "Gold log-probability, nats", "Valid before, %"),
        *("Valid after, %", "Free answers, points", "by format", "by comprehension"),
    )
    rows = [
        [
            language_name(row),
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
    used = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    return Table(
        "Further measures by language",
        [headings[column] for column in used],
        [[row[column] for column in used] for row in rows],
        "Gains, and the shares of answers that were one of the choices.",
    )


def _all_means(gains: ConditionGains) -> dict[str, GroupMean]:
    """Means over all languages and over each group, by name."""
    return {"all": gains.mean} | {str(group): mean for group, mean in gains.group_means.items()}
