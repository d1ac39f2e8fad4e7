"""Dots of the contrast of every branch, with the source's own branch marked."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isogloss.analysis.comparison import Comparison
from isogloss.report.checks import placebo_rank
from isogloss.report.style import (
    COLOURS,
    GRID,
    INK,
    MARKERS,
    Margins,
    legend,
    sheet,
    text_width,
    widened,
)
from isogloss.stats.permutation import ALPHA
from isogloss.types import Group

ROW = 0.23  # inches


def placebo(comparison: Comparison) -> Figure:
    """One row per branch: the difference from all other languages and its 95% interval.

    Filled dots have p of at most 0.05.
    """
    rows = comparison.placebo.rows
    labels = [f"{row.branch} ({len(row.languages)})" for row in rows]
    weights = ["bold" if row.is_source else "normal" for row in rows]
    left = max(text_width(label, 9, "bold") for label in labels) + 0.35
    figure, axes = sheet(
        comparison,
        f"By size of the difference, {comparison.branch} is {placebo_rank(comparison)} branches",
        ROW * (len(rows) + 0.4),
        Margins(left=left),
    )
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    ends = [100 * end for row in rows for end in (*row.interval, row.estimate)]
    finite = [end for end in ends if np.isfinite(end)]
    low, high = widened((min(0.0, *finite), max(0.0, *finite)))
    pad = 0.03 * (high - low)
    for y, row in enumerate(rows):
        group = Group.RELATED if row.is_source else Group.CONTROL
        colour = COLOURS[group]
        if np.isfinite(row.interval).all():
            axes.plot([100 * end for end in row.interval], [y, y], color=colour, linewidth=1.4)
        axes.plot(
            100 * row.estimate, y, MARKERS[group], markeredgecolor=colour,
            color=colour if row.p <= ALPHA else "white", markersize=8 if row.is_source else 6,
            zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), labels, fontsize=9)
    for label, weight in zip(axes.get_yticklabels(), weights, strict=True):
        label.set(fontweight=weight, color=INK)
    axes.set(xlim=(low - pad, high + pad), ylim=(len(rows) - 0.4, -0.8))
    axes.tick_params(axis="y", length=0, pad=6)
    axes.set_xlabel("gain of the branch minus gain of all other languages, points")
    legend(
        figure,
        [
            _key(Group.RELATED, "relatives of the source"),
            _key(Group.CONTROL, "other branches"),
            Line2D([], [], ls="", marker="s", color=INK, label=f"filled: p ≤ {ALPHA}"),
        ],
    )
    return figure


def _key(group: Group, label: str) -> Line2D:
    return Line2D(
        [], [], ls="", marker=MARKERS[group], color="white", markeredgecolor=COLOURS[group],
        label=label,
    )  # fmt: skip
