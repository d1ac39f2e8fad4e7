"""The published analysis beside ours: the table that shows where they disagree, and its numbers."""

from collections.abc import Iterator, Sequence

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.published import (
    BASELINE,
    RELATED,
    Agreement,
    Finding,
    GainBeside,
    PublishedAnalysis,
    published_analysis,
)
from isogloss.formatting import decimal, interval_points, interval_text, p_value, points, sentence
from isogloss.report.crossed import effect_interval
from isogloss.report.evidence import contrast_evidence
from isogloss.report.table import Table, language_name, p_text
from isogloss.stats.regression import INTERCEPT, Coefficient, LeastSquares
from isogloss.types import Interval

TITLE = "Published analysis beside ours"
DIFFERS = "≠"
KINSHIP_FINDINGS = {
    Finding.POSITIVE: "related languages gain more",
    Finding.NEGATIVE: "related languages gain less",
    Finding.NONE: "no advantage of related languages",
    Finding.OPEN: "inconclusive",
}
OUR_KINSHIP_FINDINGS = KINSHIP_FINDINGS | {Finding.NONE: "equal gains, to within the margin"}
DESCRIBED = {  # a contrast of too few sources for a verdict
    finding: f"described only, {text}"
    for finding, text in (OUR_KINSHIP_FINDINGS | {Finding.OPEN: "no difference seen"}).items()
}
NOTHING = "nothing to compare"
BASELINE_FINDINGS = {
    Finding.POSITIVE: "weak baselines gain less",
    Finding.NEGATIVE: "weak baselines gain more",
    Finding.NONE: "no effect of the baseline",
    Finding.OPEN: "inconclusive",
}
GAIN_FINDINGS = {
    Finding.POSITIVE: "gain",
    Finding.NEGATIVE: "loss",
    Finding.NONE: "none",
    Finding.OPEN: "not shown",
}


def beside_table(comparison: Comparison) -> Table:
    """One row per claim: what the published analysis finds, what ours does, and if they agree."""
    analysis = published_analysis(comparison)
    kinship, baseline = analysis.kinship, analysis.baseline
    return Table(
        TITLE,
        ("Claim", "Agreement", "Published analysis", "Our analysis"),
        [
            [
                "C1: related languages gain no more",
                kinship.agreement,
                _with_finding(kinship.published, KINSHIP_FINDINGS, _published_kinship(analysis)),
                _our_kinship(comparison, kinship.ours),
            ],
            [
                "C2: weak baselines gain more",
                baseline.agreement,
                _with_finding(baseline.published, BASELINE_FINDINGS, _published_baseline(analysis)),
                _with_finding(baseline.ours, BASELINE_FINDINGS, _our_baseline(comparison)),
            ],
            _gains_row(comparison, analysis),
        ],
        _what_is_wrong(comparison, analysis),
        words=True,
        bold=[Agreement.DISAGREE],
    )


def published_tables(comparison: Comparison) -> list[Table]:
    """The coefficients of the published regression, and McNemar's interval of each language."""
    analysis = published_analysis(comparison)
    one_model = len(comparison.models) == 1
    return [
        *([_regression_table(analysis.regression)] if analysis.regression else []),
        _interval_table(analysis.gains) if one_model else _interval_matrix(comparison, analysis),
    ]


def published_line(comparison: Comparison) -> str:
    """Where the published analysis finds something else than ours, for the summary."""
    analysis = published_analysis(comparison)
    claims = (
        ("C1", analysis.kinship, KINSHIP_FINDINGS, _our_findings(comparison)),
        ("C2", analysis.baseline, BASELINE_FINDINGS, BASELINE_FINDINGS),
    )
    parts = []
    for name, beside, published, ours in claims:
        if beside.published is None or beside.ours is None:
            parts.append(f"{name} not comparable")
        elif beside.agreement == Agreement.AGREE:
            parts.append(f"{name} agrees ({ours[beside.ours]})")
        else:
            verb = "disagrees" if beside.agreement == Agreement.DISAGREE else "agrees in part"
            parts.append(
                f"{name} {verb} (published: {published[beside.published]}; ours: "
                f"{ours[beside.ours]})"
            )
    differing = len(analysis.differing)
    parts.append(f"{differing or 'none'} of {len(analysis.gains)} gains differ in significance")
    return f"{'; '.join(parts)}."


def _our_findings(comparison: Comparison) -> dict[Finding, str]:
    return OUR_KINSHIP_FINDINGS if comparison.decisive else DESCRIBED


def _what_is_wrong(comparison: Comparison, analysis: PublishedAnalysis) -> str:
    over = f" over {analysis.regression.n} observations" if analysis.regression else ""
    permutes = "relabels languages"
    if comparison.decisive:
        over += f" of gains from {comparison.source_name}"
        permutes = "matches all sources with branches"
    return (
        f"As summaries of arXiv:2606.19346 describe it: McNemar's intervals, and least squares of "
        f"the gain on baseline and relatedness{over}, where a difference that is not significant "
        f"is read as none. It treats languages and items as independent units, and the noise of "
        f"the baseline is on both sides of the regression with opposite signs, which alone makes "
        f"weak baselines seem to gain more; ours {permutes}, clusters items by passage, and "
        f"takes baseline and gain from different passages."
    )


def _published_kinship(analysis: PublishedAnalysis) -> str:
    if analysis.regression is None:
        return f"No regression: {analysis.problem}"
    coefficient = analysis.regression.coefficients[RELATED]
    return (
        f"{points(coefficient.estimate)} points if related, at equal baseline (standard error "
        f"{points(coefficient.se, signed=False)}, 95% interval "
        f"{interval_points(coefficient.interval)}, p {p_value(coefficient.p)})"
    )


def _our_kinship(comparison: Comparison, finding: Finding | None) -> str:
    if crossed := comparison.decisive:
        effect = crossed.overall
        numbers = (
            f"{points(effect.estimate)} points over {effect.n_sources} sources "
            f"({effect_interval(effect)}, p {p_value(effect.p)})"
        )
        if finding is None:
            return f"{sentence(NOTHING)}: {numbers}"
        return _with_finding(finding, OUR_KINSHIP_FINDINGS, numbers)
    return _with_finding(finding, DESCRIBED, _our_contrast(comparison))


def _our_contrast(comparison: Comparison) -> str:
    contrast = comparison.contrast
    return f"contrast {points(contrast.estimate)} points ({contrast_evidence(contrast)})"


def _published_baseline(analysis: PublishedAnalysis) -> str:
    if analysis.regression is None:
        return f"No regression: {analysis.problem}"
    coefficient = analysis.regression.coefficients[BASELINE]
    return (
        f"{decimal(coefficient.estimate, 2)} points per point (standard error "
        f"{decimal(coefficient.se, 2, signed=False)}, 95% interval "
        f"{interval_text(coefficient.interval, 2)}, p {p_value(coefficient.p)})"
    )


def _our_baseline(comparison: Comparison) -> str:
    if not comparison.baseline_slopes:
        return "no slope"
    slope = comparison.baseline_slopes[-1]
    test, over = slope.test, f"over {slope.test.n_units} {slope.units}"
    if not test.bounded:
        return f"no slope beyond sampling noise, {over}"
    return (
        f"cross-fitted {decimal(test.slope, 2)} points per point, {over} (95% interval "
        f"{interval_text(test.interval, 2)}, p {p_value(test.p)})"
    )


def _gains_row(comparison: Comparison, analysis: PublishedAnalysis) -> list[str]:
    gains, n_languages = analysis.gains, len(comparison.languages)
    several = f"{len(comparison.models)} models in " if len(comparison.models) > 1 else ""
    published = _counts([gain.published for gain in gains])
    ours = _counts([gain.ours for gain in gains])
    return [
        "Gain of each language",
        analysis.gains_agreement,
        f"{published}: McNemar's 95% intervals that exclude zero, {several}{n_languages} languages",
        f"{ours}: items clustered by passage, p adjusted for {n_languages} languages by Holm's "
        f"method; {len(analysis.differing) or 'none'} of {len(gains)} differ",
    ]


def _counts(findings: Sequence[Finding]) -> str:
    rose, fell = findings.count(Finding.POSITIVE), findings.count(Finding.NEGATIVE)
    return f"{rose} {'gain' if rose == 1 else 'gains'}, {fell} {'loss' if fell == 1 else 'losses'}"


def _with_finding(finding: Finding | None, words: dict[Finding, str], numbers: str) -> str:
    return numbers if finding is None else f"{sentence(words[finding])}: {numbers}"


def _regression_table(regression: LeastSquares) -> Table:
    return Table(
        "Published regression",
        ("Term", "Coefficient", "Standard error", "95% interval", "p"),
        list(_coefficient_rows(regression)),
        f"Ordinary least squares of the gain over {regression.n} observations, one per model and "
        f"related or control language: R² {decimal(regression.r_squared, 2, signed=False)}, "
        f"{regression.df} degrees of freedom. Standard errors take observations as independent.",
    )


def _coefficient_rows(regression: LeastSquares) -> Iterator[list[str]]:
    labels = {
        INTERCEPT: "Intercept, points",
        BASELINE: "Baseline, points per point",
        RELATED: "Related language, points",
    }
    for name, label in labels.items():
        coefficient: Coefficient = regression.coefficients[name]
        scale, digits = (1, 2) if name == BASELINE else (100, 1)
        yield [
            label,
            decimal(scale * coefficient.estimate, digits),
            decimal(scale * coefficient.se, digits, signed=False),
            interval_text(Interval(*(scale * end for end in coefficient.interval)), digits),
            p_text(coefficient.p),
        ]


def _interval_table(gains: Sequence[GainBeside]) -> Table:
    """One model: both intervals and both findings."""
    return Table(
        "McNemar intervals by language",
        (
            *("Language", "Agree?", "Gain, points", "McNemar interval", "p, McNemar"),
            *("Published finding", "Our interval", "Our p, Holm", "Our finding"),
        ),
        [
            [
                language_name(gain.row),
                "yes" if gain.agreement == Agreement.AGREE else "no",
                points(gain.row.gain),
                interval_points(Interval(gain.row.mcnemar_low, gain.row.mcnemar_high)),
                p_text(gain.row.mcnemar_p),
                GAIN_FINDINGS[gain.published],
                interval_points(Interval(gain.row.low, gain.row.high)),
                p_text(gain.row.holm_p),
                GAIN_FINDINGS[gain.ours],
            ]
            for gain in gains
        ],
        "95% intervals. McNemar's takes items as independent (for several seeds, the mean change "
        "of each item), without adjustment for the number of languages. A gain or loss is a "
        "published finding if its interval excludes zero, and ours if its adjusted p is at most "
        "0.05.",
        bold=["no"],
    )


def _interval_matrix(comparison: Comparison, analysis: PublishedAnalysis) -> Table:
    """Several models: one column each."""
    by_place = {(gain.model, gain.row.code): gain for gain in analysis.gains}
    labels = [model.label for model in comparison.models]
    return Table(
        "McNemar intervals by language",
        ("Language", *labels),
        [
            [language_name(row), *(_cell(by_place[label, row.code]) for label in labels)]
            for row in comparison.languages
        ],
        f"Points, with McNemar's 95% interval, which takes items as independent (for several "
        f"seeds, the mean change of each item) and is not adjusted for the number of languages. "
        f"{DIFFERS}: this interval and our Holm-adjusted p differ on whether there is a gain or "
        f"loss.",
        bold=[_cell(gain) for gain in analysis.differing],
    )


def _cell(gain: GainBeside) -> str:
    interval = interval_points(Interval(gain.row.mcnemar_low, gain.row.mcnemar_high))
    differs = f" {DIFFERS}" if gain.agreement == Agreement.DISAGREE else ""
    return f"{points(gain.row.gain)} {interval}{differs}"
