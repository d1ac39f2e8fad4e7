"""Figures with one row per language: accuracy before and after, gains, and parts of gains."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import LanguageGain, gain_parts, mean_gain_parts
from isogloss.formatting import points, sentence
from isogloss.report.language_axes import LanguageRows, language_axes, language_rows
from isogloss.report.style import COLOURS, FAINT, INK, MARKERS, WIDTH, drawable, legend, widened
from isogloss.types import FloatArray, Group

PARTS = {"comprehension": ("#0072B2", ""), "format": ("#E69F00", "////")}


def before_after(comparison: Comparison) -> Figure:
    """Dumbbells: accuracy of each language before and after; the chance level is dashed."""
    contrast = comparison.contrast
    title = (
        f"{sentence(comparison.change)}: related {points(contrast.mean_related)} points, "
        f"control {points(contrast.mean_control)}"
    )
    rows = language_rows(comparison)
    figure, axes = language_axes(comparison, rows, title, right=0.75)
    edge = 1 + 0.6 / (axes.get_position().width * WIDTH)  # right end of the printed gains
    axes.text(
        edge, -0.9, "gain", transform=axes.get_yaxis_transform(),
        ha="right", va="center", fontsize=9, color=FAINT,
    )  # fmt: skip
    for _, group in rows.headings:
        _dumbbells(axes, rows, group, edge)
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
    """Forest plot: gain of each language with its 95% interval, and group means.

    With several models these are means over models, and small dots are single models.
    """
    rows = language_rows(comparison)
    figure, axes = language_axes(comparison, rows, f"Gain with {comparison.change}, by language")
    axes.axvline(0, color=INK, linewidth=1)
    several = len(comparison.models) > 1
    by_model = [model.gain_by_code for model in comparison.models] if several else []
    for _, group in rows.headings:
        ys, members = rows.members(group)
        for gain_by_code in by_model:
            _model_dots(axes, ys, [gain_by_code[row.code] for row in members], group)
        _intervals(axes, ys, members, group)
        if len(members) > 1:
            mean = 100 * comparison.overall.group_means[group].gain
            axes.plot(
                [mean, mean], [ys[0] - 0.5, ys[-1] + 0.5],
                color=COLOURS[group], linewidth=5, alpha=0.25, solid_capstyle="butt", zorder=0,
            )  # fmt: skip
    axes.set_xlim(widened(axes.get_xlim()))
    averaged = "mean over models; " if several else ""
    axes.set_xlabel(f"gain in accuracy, points ({averaged}95% interval)")
    handles = [Line2D([], [], color=FAINT, linewidth=5, alpha=0.5, label="group mean")]
    if several:
        handles.append(Line2D([], [], color=FAINT, marker="o", ms=3, ls="", label="single model"))
    legend(figure, handles)
    return figure


def parts(comparison: Comparison) -> Figure:
    """Stacked bars: comprehension and format part of each language's gain in free answers.

    Parts of opposite sign are on opposite sides of zero; the diamond is their sum.
    """
    mean = mean_gain_parts(comparison.languages)
    title = (
        f"Format {points(mean['gain_format'])} points, comprehension "
        f"{points(mean['gain_comprehension'])}, on average"
    )
    rows = language_rows(comparison)
    figure, axes = language_axes(comparison, rows, title)
    axes.axvline(0, color=INK, linewidth=1)
    split = [(y, named) for y, row in rows.languages if (named := gain_parts(row))]
    ys = np.array([y for y, _ in split])
    total, *values = (
        100 * np.array([named[name] for _, named in split])
        for name in ("gain_free", "gain_comprehension", "gain_format")
    )
    ends = {True: np.zeros(len(ys)), False: np.zeros(len(ys))}  # of bars right and left of zero
    for name, value in zip(("comprehension", "format"), values, strict=True):
        colour, hatch = PARTS[name]
        positive = value >= 0
        axes.barh(
            ys, value, left=np.where(positive, ends[True], ends[False]), height=0.62,
            color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, zorder=2,
        )  # fmt: skip
        ends = {side: end + np.where(positive == side, value, 0) for side, end in ends.items()}
    axes.plot(total, ys, "D", color=INK, markersize=4.5, zorder=3)
    axes.margins(x=0.04)
    axes.set_xlim(widened(axes.get_xlim()))
    axes.set_xlabel("gain in accuracy of free answers, points")
    handles: list[Artist] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=f"{name} part")
        for name, (colour, hatch) in PARTS.items()
    ]
    handles.append(Line2D([], [], color=INK, marker="D", ls="", markersize=4.5, label="sum"))
    legend(figure, handles)
    return figure


def _dumbbells(axes: Axes, rows: LanguageRows, group: Group, edge: float) -> None:
    ys, members = rows.members(group)
    colour, marker = COLOURS[group], MARKERS[group]
    before = 100 * np.array([row.before for row in members])
    after = 100 * np.array([row.after for row in members])
    axes.hlines(ys, before, after, color=colour, linewidth=3, alpha=0.35, zorder=1)
    axes.plot(before, ys, marker, color=colour, markerfacecolor="white", markersize=6.5, zorder=2)
    axes.plot(after, ys, marker, color=colour, markersize=6.5, zorder=3)
    for y, row in zip(ys, members, strict=True):
        axes.text(
            edge, y, points(row.gain), transform=axes.get_yaxis_transform(),
            ha="right", va="center", fontsize=9, color=colour,
        )  # fmt: skip


def _model_dots(axes: Axes, ys: FloatArray, gain: list[float], group: Group) -> None:
    axes.plot(
        100 * np.array(gain), ys, "o", color=COLOURS[group],
        alpha=0.3, markersize=3, markeredgewidth=0,
    )  # fmt: skip


def _intervals(axes: Axes, ys: FloatArray, members: list[LanguageGain], group: Group) -> None:
    """Gains with their intervals; a single passage has none."""
    colour = COLOURS[group]
    low, gain, high = (
        100 * np.array(values)
        for values in zip(*((row.low, row.gain, row.high) for row in members), strict=True)
    )
    finite = np.isfinite(low)
    axes.hlines(ys[finite], low[finite], high[finite], color=colour, linewidth=1.5)
    axes.plot(gain, ys, MARKERS[group], color=colour, markersize=6)
