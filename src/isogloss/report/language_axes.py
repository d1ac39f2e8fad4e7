"""Axes with one row per language, under a heading per group."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import GROUPS, LanguageGain
from isogloss.report.style import COLOURS, GRID, INK, WIDTH, Margins, sheet, text_width
from isogloss.types import FloatArray, Group

CROWDED = 40  # languages; beyond, rows are tighter and the x axis is repeated at the top
FONT_SIZE = 9


class LanguageRows(NamedTuple):
    """The height (y, downwards) of every language and group heading."""

    languages: list[tuple[float, LanguageGain]]
    headings: list[tuple[float, Group]]

    @property
    def height(self) -> float:
        """Number of rows, including headings and gaps."""
        return max(y for y, _ in self.languages) + 1

    @property
    def crowded(self) -> bool:
        """Whether there are so many languages that rows are tighter."""
        return len(self.languages) > CROWDED

    def members(self, group: Group) -> tuple[FloatArray, list[LanguageGain]]:
        """Heights and languages of a group."""
        members = [(y, row) for y, row in self.languages if row.group == group]
        return np.array([y for y, _ in members]), [row for _, row in members]


def language_rows(comparison: Comparison) -> LanguageRows:
    """One row per language in the order of the comparison, one heading per group present."""
    languages: list[tuple[float, LanguageGain]] = []
    headings: list[tuple[float, Group]] = []
    y = 0.0
    for group in GROUPS:
        if members := comparison.overall.members(group):
            headings.append((y, group))
            languages += [(y + 1 + i, row) for i, row in enumerate(members)]
            y += len(members) + 1.5
    return LanguageRows(languages, headings)


def language_axes(
    comparison: Comparison,
    rows: LanguageRows,
    title: str,
    *,
    width: float = WIDTH,
    right: float = 0.25,
    above: float = 0.0,
    below: float = 0.9,
) -> tuple[Figure, Axes]:
    """A figure with labelled rows; `width` and the margins `right`, `above`, `below` in inches."""
    height = (0.19 if rows.crowded else 0.225) * (rows.height + 0.3)
    margins = Margins(
        left=label_width(comparison, rows), right=right, above=above + 0.25 * rows.crowded,
        below=below,
    )  # fmt: skip
    figure, axes = sheet(comparison, title, height, margins, width)
    labels = [(y, _name(row), INK, "normal") for y, row in rows.languages]
    headings = _headings(comparison)
    labels += [(y, headings[group], COLOURS[group], "bold") for y, group in rows.headings]
    axes.set_yticks([y for y, *_ in labels], [text for _, text, *_ in labels])
    for label, (_, _, colour, weight) in zip(axes.get_yticklabels(), labels, strict=True):
        label.set(color=colour, fontweight=weight, fontsize=FONT_SIZE)
    axes.set_ylim(rows.height - 0.3, -0.6)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labeltop=rows.crowded)
    return figure, axes


def label_width(comparison: Comparison, rows: LanguageRows) -> float:
    """Width of the widest label with its padding, in inches."""
    headings = _headings(comparison)
    names = max(text_width(_name(row), FONT_SIZE) for _, row in rows.languages)
    groups = max(text_width(headings[group], FONT_SIZE, "bold") for _, group in rows.headings)
    return max(names, groups) + 0.25


def _headings(comparison: Comparison) -> dict[Group, str]:
    return {
        Group.SOURCE: "source",
        Group.VARIETY: "varieties of the source",
        Group.RELATED: f"related: {comparison.branch}",
        Group.CONTROL: "control",
    }


def _name(row: LanguageGain) -> str:
    return f"{row.name} ({row.code})"
