"""Figures with a row for each language: accuracy, gains, their parts, and models side by side."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import GROUPS, LanguageGain, gain_parts, mean_gain_parts
from isogloss.formatting import points, sentence
from isogloss.report.style import (
    COLOURS,
    FAINT,
    GRID,
    INK,
    MARKERS,
    WIDTH,
    drawable,
    legend,
    model_labels,
    sheet,
    text_width,
)
from isogloss.types import FloatArray, Group

PARTS = {"comprehension": ("#0072B2", ""), "format": ("#E69F00", "////")}


class Rows(NamedTuple):
    """Where languages and group headings stand, from the top down."""

    languages: list[tuple[float, LanguageGain]]
    headings: list[tuple[float, Group]]

    @property
    def height(self) -> float:
        """Number of rows, headings and gaps included."""
        return max(y for y, _ in self.languages) + 1

    def members(self, group: Group) -> tuple[FloatArray, list[LanguageGain]]:
        """Heights and languages of a group."""
        found = [(y, row) for y, row in self.languages if row.group == group]
        return np.array([y for y, _ in found]), [row for _, row in found]


def before_after(comparison: Comparison) -> Figure:
    """Dumbbells: accuracy of each language before and after, with the chance level dashed."""
    contrast = comparison.contrast
    title = (
        f"{sentence(comparison.change)}: related {points(contrast.mean_related)} points, "
        f"control {points(contrast.mean_control)}"
    )
    rows = _rows(comparison)
    figure, axes = _by_language(comparison, rows, title, right=0.75)
    beyond = axes.get_yaxis_transform()
    place = 1 + 0.6 / (axes.get_position().width * WIDTH)
    axes.text(
        place, -0.9, "gain", transform=beyond, ha="right", va="center", fontsize=9, color=FAINT
    )
    for group, _ in _present(rows):
        ys, members = rows.members(group)
        colour, marker = COLOURS[group], MARKERS[group]
        base, tuned = (100 * np.array(values) for values in zip(*map(_ends, members), strict=True))
        axes.hlines(ys, base, tuned, color=colour, linewidth=3, alpha=0.35, zorder=1)
        axes.plot(base, ys, marker, color=colour, markerfacecolor="white", markersize=6.5, zorder=2)
        axes.plot(tuned, ys, marker, color=colour, markersize=6.5, zorder=3)
        for y, row in zip(ys, members, strict=True):
            axes.text(
                place, y, points(row.gain), transform=beyond,
                ha="right", va="center", fontsize=9, color=colour,
            )  # fmt: skip
    handles = [
        Line2D([], [], color=FAINT, marker="o", markerfacecolor="white", ls="", label="before"),
        Line2D([], [], color=FAINT, marker="o", ls="", label="after"),
    ]
    if comparison.chance is not None:
        axes.axvline(100 * comparison.chance, color=INK, linewidth=1, linestyle="--", zorder=0.8)
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle="--", label="chance"))
    legend(figure, handles)
    axes.set_xlabel(f"accuracy on {drawable(comparison.task)}, %")
    return figure


def gains(comparison: Comparison) -> Figure:
    """Forest plot: gain of each language with its 95% interval, and the mean of each group.

    With several models these are means over models, and small dots are the models.
    """
    rows = _rows(comparison)
    title = f"Gain with {comparison.change}, by language"
    figure, axes = _by_language(comparison, rows, title)
    axes.axvline(0, color=INK, linewidth=1)
    several = len(comparison.models) > 1
    by_model = [model.gain_by_code for model in comparison.models]
    for group, _ in _present(rows):
        ys, members = rows.members(group)
        colour = COLOURS[group]
        low, gain, high = (
            100 * np.array(values)
            for values in zip(*((row.low, row.gain, row.high) for row in members), strict=True)
        )
        for model in by_model if several else ():
            each = 100 * np.array([model[row.code] for row in members])
            axes.plot(each, ys, "o", color=colour, alpha=0.3, markersize=3, markeredgewidth=0)
        known = np.isfinite(low)
        axes.hlines(ys[known], low[known], high[known], color=colour, linewidth=1.5)
        axes.plot(gain, ys, MARKERS[group], color=colour, markersize=6)
        if len(members) > 1:
            axes.plot(
                [100 * comparison.overall.group_means[group].gain] * 2, [ys[0] - 0.5, ys[-1] + 0.5],
                color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt", zorder=0,
            )  # fmt: skip
    whose = "mean over models; " if several else ""
    axes.set_xlabel(f"gain in accuracy, points ({whose}95% interval)")
    handles = [Line2D([], [], color=FAINT, linewidth=5, alpha=0.5, label="mean of the group")]
    if several:
        handles.append(Line2D([], [], color=FAINT, marker="o", ms=3, ls="", label="each model"))
    legend(figure, handles)
    return figure


def parts(comparison: Comparison) -> Figure:
    """Stacked bars: format part and comprehension part of each language's gain in free answers.

    Parts of opposite sign stand on either side of zero; the diamond is their sum.
    """
    mean = mean_gain_parts(comparison.languages)
    title = (
        f"Format {points(mean['gain_format'])} points, comprehension "
        f"{points(mean['gain_comprehension'])}, on average"
    )
    rows = _rows(comparison)
    figure, axes = _by_language(comparison, rows, title)
    axes.axvline(0, color=INK, linewidth=1)
    known = [(y, named) for y, row in rows.languages if (named := gain_parts(row))]
    ys = np.array([y for y, _ in known])
    free, *values = (
        100 * np.array([named[name] for _, named in known])
        for name in ("gain_free", "gain_comprehension", "gain_format")
    )
    ends = {True: np.zeros(len(ys)), False: np.zeros(len(ys))}
    for name, value in zip(("comprehension", "format"), values, strict=True):
        colour, hatch = PARTS[name]
        up = value >= 0
        axes.barh(
            ys, value, left=np.where(up, ends[True], ends[False]), height=0.62,
            color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, zorder=2,
        )  # fmt: skip
        ends = {side: end + np.where(up == side, value, 0) for side, end in ends.items()}
    axes.plot(free, ys, "D", color=INK, markersize=4.5, zorder=3)
    axes.margins(x=0.04)
    axes.set_xlabel("gain in accuracy of answers as given, points")
    handles: list[Artist] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=f"{name} part")
        for name, (colour, hatch) in PARTS.items()
    ]
    handles.append(Line2D([], [], color=INK, marker="D", ls="", markersize=4.5, label="sum"))
    legend(figure, handles)
    return figure


def models(comparison: Comparison) -> Figure:
    """Heat map: gain of each model in each language and, in the headings' rows, in each group."""
    names = [model.label for model in comparison.models]
    codes = [row.code for row in comparison.languages]
    by_model = [model.gain_by_code for model in comparison.models]
    gain_ML = np.array([[gain[code] for code in codes] for gain in by_model])
    shown = model_labels(comparison)
    cell, left = 0.54, _label_width(comparison, _rows(comparison))
    tallest = max(text_width(shown[name], 9) for name in names)
    rows = _rows(comparison)
    figure, axes = _by_language(
        comparison,
        rows,
        f"Gain with {comparison.change}, by model and language",
        width=max(WIDTH, left + cell * len(names) + 0.3 + 0.75 * tallest),
        right=max(WIDTH - left - cell * len(names), 0.3 + 0.75 * tallest),
        above=0.75 * tallest + 0.1,
        below=0.55,
    )
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", bottom=False, labelbottom=False, labeltop=True, length=0)
    axes.set_xlim(0, len(names))
    axes.set_xticks(
        np.arange(len(names)) + 0.4, [shown[name] for name in names],
        rotation=45, ha="left", rotation_mode="anchor", fontsize=9,
    )  # fmt: skip
    at = {code: place for place, code in enumerate(codes)}
    colour_of = colormaps["PuOr"]
    largest = max(float(np.abs(gain_ML).max()), 1e-9)
    for group, heading in _present(rows):
        ys, members = rows.members(group)
        inside = gain_ML[:, [at[row.code] for row in members]].T
        axes.pcolormesh(
            np.arange(len(names) + 1), np.append(ys - 0.5, ys[-1] + 0.5), inside,
            cmap=colour_of, vmin=-largest, vmax=largest, edgecolors="white", linewidth=0.8,
        )  # fmt: skip
        lines = [(heading, inside.mean(axis=0), "bold", False)]
        lines += [(y, row, "normal", True) for y, row in zip(ys, inside, strict=True)]
        for y, values, weight, filled in lines:
            for x, value in enumerate(values):
                colour = colour_of(0.5 + 0.5 * value / largest)
                dark = filled and np.dot(colour[:3], (0.2126, 0.7152, 0.0722)) < 0.55
                axes.text(
                    x + 0.5, y, points(value), fontsize=8, fontweight=weight,
                    color="white" if dark else INK, ha="center", va="center",
                )  # fmt: skip
    legend(
        figure,
        [
            Patch(color=colour_of(0.85), label="gain, points"),
            Patch(color=colour_of(0.15), label="loss, points"),
        ],
    )
    return figure


def _rows(comparison: Comparison) -> Rows:
    languages: list[tuple[float, LanguageGain]] = []
    headings: list[tuple[float, Group]] = []
    y = 0.0
    for name in GROUPS:
        if members := comparison.overall.members(name):
            headings.append((y, name))
            languages += [(y + 1 + i, row) for i, row in enumerate(members)]
            y += len(members) + 1.5
    return Rows(languages, headings)


def _present(rows: Rows) -> Iterable[tuple[Group, float]]:
    """Groups that have languages, and the heights of their headings."""
    return ((name, y) for y, name in rows.headings)


def _headings(comparison: Comparison) -> Mapping[Group, str]:
    return {
        Group.SOURCE: "source",
        Group.VARIETY: "varieties of the source",
        Group.RELATED: f"related: {comparison.branch}",
        Group.CONTROL: "control",
    }


def _ends(row: LanguageGain) -> tuple[float, float]:
    return row.before, row.after


def _label_width(comparison: Comparison, rows: Rows) -> float:
    titles = _headings(comparison)
    names = max(text_width(_named(row), 9) for _, row in rows.languages)
    groups = max(text_width(titles[name], 9, "bold") for _, name in rows.headings)
    return max(names, groups) + 0.25


def _named(row: LanguageGain) -> str:
    return f"{row.name} ({row.code})"


def _by_language(
    comparison: Comparison,
    rows: Rows,
    title: str,
    *,
    width: float = WIDTH,
    right: float = 0.25,
    above: float = 0.0,
    below: float = 0.9,
) -> tuple[Figure, Axes]:
    """Axes with a row for each language and each group's heading."""
    crowded = len(rows.languages) > 40
    height = (0.19 if crowded else 0.225) * (rows.height + 0.3)
    figure, axes = sheet(
        comparison, title, height, left=_label_width(comparison, rows),
        right=right, above=above + 0.25 * crowded, below=below, width=width,
    )  # fmt: skip
    titles = _headings(comparison)
    places = [(y, _named(row), INK, "normal") for y, row in rows.languages]
    places += [(y, titles[name], COLOURS[name], "bold") for y, name in rows.headings]
    axes.set_yticks([y for y, *_ in places], [text for _, text, *_ in places])
    for label, (_, _, colour, weight) in zip(axes.get_yticklabels(), places, strict=True):
        label.set(color=colour, fontweight=weight, fontsize=9)
    axes.set_ylim(rows.height - 0.3, -0.6)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    if crowded:
        axes.tick_params(axis="x", labeltop=True)
    return figure, axes
