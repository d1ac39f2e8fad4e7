"""The report of a comparison: one self-contained HTML page, its Markdown twin, and figures."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from isogloss import figures as draw
from isogloss.comparison import (
    Comparison,
    decimal,
    interval_points,
    mean_parts,
    p_value,
    points,
    table,
)
from isogloss.contrasts import Contrast, Interval

DPI = 160
CAPTIONS = {
    "before_after": "Accuracy of each language before (hollow) and after (filled).",
    "gains": "Gain of each language with its 95% interval, clustered by passage.",
    "parts": "Gain of answers as given (those that are no choice are wrong), split into the "
    "gain of forced choices and the change in how far they fall short of these.",
    "contrast": "The relatedness contrast and its intervals against the equivalence margin.",
}
HOW_TO_READ = (
    "The gain of a language is the difference in accuracy on the same items. The relatedness "
    "contrast is the mean gain of related languages minus the mean gain of controls, each language "
    "counting once; its test and intervals come from relabelling which languages are called "
    "related, so they speak of languages, not of items.",
    "Answers as given are greedy or generated ones, wrong if they are no choice. Their gain is the "
    "gain of forced choices (comprehension) plus the change in how far they fall short of these "
    "(format). Where a letter is answered directly, these are answers that it had and did "
    "not give; in generated text, and after reasoning, it is their disagreement too.",
    "The equivalence margin is the difference taken to matter, and is to be chosen before results "
    "are seen. The verdict is equivalent if the 90% interval lies within it, related gain more (or "
    "less) if the 95% interval otherwise excludes zero, and inconclusive if neither holds.",
    "The minimum detectable effect is the true difference that this many languages, with this "
    "spread, would show four times in five. Where it is larger than the margin, an inconclusive "
    "verdict says more about the number of languages than about kinship.",
)


class Table(NamedTuple):
    """Headings and cells as text; the first column is a label, the rest are numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The figures by name: before_after, gains, contrast, and parts where they are known."""
    drawn = {"before_after": draw.before_after(comparison), "gains": draw.gains(comparison)}
    if mean_parts(comparison):
        drawn["parts"] = draw.parts(comparison)
    return {**drawn, "contrast": draw.contrast(comparison)}


def write(comparison: Comparison, folder: Path, provenance: Mapping[str, str]) -> Path:
    """Write report.html, report.md, gains.csv and a PNG for each figure; the path of report.html.

    `provenance` is printed as it is given, in its order: runs, model, versions. The page loads
    nothing from elsewhere: figures are data: URIs, and everything from data is escaped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table(comparison).to_csv(folder / "gains.csv", index=False)
    images = {}
    for name, figure in figures(comparison).items():
        images[name] = _png(figure)
        (folder / f"{name}.png").write_bytes(images[name])
    tables = [_contrast_table(comparison), _group_table(comparison), _gain_table(comparison)]
    markdown = _markdown(comparison, tables, provenance)
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    source = (files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    page = folder / "report.html"
    page.write_text(
        template.render(
            title=_title(comparison),
            verdict=comparison.accuracy.verdict,
            paragraph=comparison.paragraph,
            images={name: base64.b64encode(png).decode() for name, png in images.items()},
            captions=CAPTIONS,
            tables=tables,
            provenance=provenance,
            how_to_read=HOW_TO_READ,
        ),
        encoding="utf-8",
    )
    return page


def _title(comparison: Comparison) -> str:
    return f"Does the gain with {comparison.change} follow kinship?"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _contrast_table(comparison: Comparison) -> Table:
    def in_unit(interval: Interval) -> str:
        return f"[{decimal(interval.low, 3)}, {decimal(interval.high, 3)}]"

    def row(label: str, contrast: Contrast) -> list[str]:
        test, welch = contrast.permutation, contrast.welch
        accuracy = contrast is comparison.accuracy
        ends = interval_points if accuracy else in_unit
        return [
            label,
            points(contrast.estimate) if accuracy else decimal(contrast.estimate, 3),
            ends(test.interval_95),
            ends(test.interval_90),
            _p(test.p),
            ends(welch.interval),
            _p(welch.p),
            "" if contrast.tost_p is None else _p(contrast.tost_p),
        ]

    return Table(
        "Relatedness contrast",
        (
            *("Measure", "Related − control", "95% interval", "90% interval", "p, permutation"),
            *("95% interval, Welch", "p, Welch", "p, two one-sided tests"),
        ),
        [
            row("Accuracy, points", comparison.accuracy),
            row("Accuracy, log-odds", comparison.log_odds),
            row("Gold log-probability, nats", comparison.gold_logprob),
        ],
    )


def _group_table(comparison: Comparison) -> Table:
    return Table(
        "Means by group",
        ("Group", "Languages", "Before, %", "After, %", "Gain, points"),
        [
            [
                name,
                str(mean.languages),
                points(mean.base, signed=False),
                points(mean.tuned, signed=False),
                points(mean.gain),
            ]
            for name, mean in comparison.means.items()
        ],
    )


def _gain_table(comparison: Comparison) -> Table:
    def share(value: float | None, *, signed: bool = False) -> str:
        return "" if value is None else points(value, signed=signed)

    return Table(
        "Gains by language",
        (
            *("Language", "Group", "Gain, points", "95% interval", "Before, %", "After, %"),
            *("p, McNemar", "p, Holm", "Valid before, %", "Valid after, %"),
            *("As given, points", "by format", "by comprehension"),
            *("Gold log-probability, nats", "Items", "Passages", "Branch"),
        ),
        [
            [
                f"{row.name} ({row.code})",
                row.group,
                points(row.gain),
                interval_points(Interval(row.low, row.high)),
                points(row.base, signed=False),
                points(row.tuned, signed=False),
                _p(row.mcnemar_p),
                _p(row.holm_p),
                share(row.base_valid),
                share(row.tuned_valid),
                share(row.free_gain, signed=True),
                share(row.format_part, signed=True),
                share(row.comprehension_part, signed=True),
                decimal(row.gold_logprob_gain, 3),
                str(row.n),
                str(row.passages),
                row.branch,
            ]
            for row in comparison.languages
        ],
    )


def _p(p: float) -> str:
    return p_value(p).removeprefix("= ")


def _markdown(
    comparison: Comparison, tables: Sequence[Table], provenance: Mapping[str, str]
) -> str:
    def escape(text: str) -> str:
        for special in "\\|*_`[]":
            text = text.replace(special, f"\\{special}")
        return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())

    def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        rule = ["---", *["---:"] * (len(headings) - 1)]
        cells = [[escape(cell) for cell in row] for row in (headings, *rows)]
        return [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]

    lines = [
        f"# {_title(comparison)}",
        "",
        f"**{comparison.accuracy.verdict.capitalize()}.** {escape(comparison.paragraph)}",
    ]
    for name in figures(comparison):
        caption = CAPTIONS[name]
        lines += ["", f"![{caption}]({name}.png)"]
    for each in tables:
        lines += ["", f"## {each.title}", "", *grid(each.headings, each.rows)]
    lines += ["", "## Provenance", "", *grid(["What", "Value"], list(provenance.items()))]
    lines += ["", "## How to read this", ""]
    return "\n".join(lines) + "\n" + "\n\n".join(HOW_TO_READ) + "\n"
