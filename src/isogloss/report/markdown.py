"""The Markdown twin of the report page; figures are the files beside it."""

from collections.abc import Mapping, Sequence

from isogloss.formatting import sentence
from isogloss.report.claims import ClaimText
from isogloss.report.content import Content
from isogloss.report.table import Table

SPECIAL = "\\|*_`[]~$"


def markdown(content: Content) -> str:
    """The same content as the page, in the same order."""
    summary = content.summary
    lines = [
        f"# {content.title}",
        "",
        f"**{summary.verdict}:** {_escaped(summary.headline)}",
        *(["", _escaped(summary.numbers)] if summary.numbers else []),
        "",
        _escaped(summary.next_steps),
        *(["", f"    {summary.command}"] if summary.command else []),
        *_heading("What the answer rests on"),
        *(f"- **{line.label}:** {_escaped(line.text)}" for line in summary.details),
    ]
    if content.crossed:
        lines += ["", "## Kinship over all sources"]
        lines += _figures(content.crossed_captions)
        lines += _tables(content.crossed)
    lines += ["", "## The three claims"]
    for claim in content.claims:
        lines += _claim(claim)
    lines += ["", "## Figures", *_figures(content.captions)]
    lines += ["", "## All numbers", *_tables(content.numbers)]
    lines += ["", f"## {content.published.title}", *_tables([content.published])]
    lines += _heading("What is missing")
    lines += [f"- {_escaped(line)}" for line in content.omissions] or ["Nothing."]
    lines += ["", "## Runs and provenance", *_tables(content.texts)]
    lines += _heading("How to read this")
    lines += [f"- **{term}:** {text}" for term, text in content.how_to_read.items()]
    return "\n".join(lines) + "\n"


def _heading(title: str) -> list[str]:
    return ["", f"## {title}", ""]


def _tables(tables: Sequence[Table]) -> list[str]:
    return [line for table in tables for line in _table(table)]


def _figures(captions: Mapping[str, str]) -> list[str]:
    return [
        line
        for name, caption in captions.items()
        for line in ("", f"![{caption}]({name}.png)", "", caption)
    ]


def _claim(claim: ClaimText) -> list[str]:
    numbers = [f"{label[:1].lower()}{label[1:]} {value}" for label, value in claim.numbers]
    heading = f"**{claim.name}: {_escaped(claim.title)}.** "
    heading += f"{_escaped(sentence('; '.join([claim.verdict, *numbers])))}."
    rest = [claim.conclusion, claim.key_result, *claim.details]
    return ["", heading, "", *(f"- {_escaped(line)}" for line in rest if line)]


def _table(table: Table) -> list[str]:
    heading = [_escaped(value) for value in table.headings]
    rows = [
        [f"**{_escaped(value)}**" if value in table.bold else _escaped(value) for value in row]
        for row in table.rows
    ]
    rule = ["---", *["---" if table.words else "---:"] * (len(table.headings) - 1)]
    note = [_escaped(table.note), ""] if table.note else []
    cells = [f"| {' | '.join(row)} |" for row in (heading, rule, *rows)]
    return ["", f"### {table.title}", "", *note, *cells]


def _escaped(text: str) -> str:
    for special in SPECIAL:
        text = text.replace(special, f"\\{special}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
