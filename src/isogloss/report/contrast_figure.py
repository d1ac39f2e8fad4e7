"""Forest plots of contrasts and effects against the equivalence margin."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.analysis.comparison import Comparison
from isogloss.formatting import interval_points, points
from isogloss.report.evidence import FEWEST_FOR_WELCH, contrast_interval
from isogloss.report.style import (
    FAINT,
    INK,
    MARGIN_COLOUR,
    WIDTH,
    Margins,
    legend,
    model_labels,
    sheet,
    text_width,
)
from isogloss.stats.contrasts import Contrast
from isogloss.types import Interval, Measure

RIGHT = 1.75  # inches for the printed estimates


class Row(NamedTuple):
    """An estimate with its 95% and 90% intervals, or without; a heading has none of them."""

    label: str
    estimate: float = math.nan
    interval_95: Interval | None = None
    interval_90: Interval | None = None
    bold: bool = False

    @property
    def heading(self) -> bool:
        """Whether this row has no estimate."""
        return self.interval_95 is None and math.isnan(self.estimate)

    @property
    def weight(self) -> str:
        """The font weight of the label."""
        return "bold" if self.bold or self.heading else "normal"


def contrast(comparison: Comparison) -> Figure:
    """All contrasts: overall, by model, other conditions, adjusted, double differences."""
    interval = contrast_interval(comparison.contrast)
    return forest(
        comparison,
        f"Relatedness contrast {points(comparison.contrast.estimate)} points, "
        + ("no 95% interval" if interval == "none" else f"95% interval {interval}"),
        list(_rows(comparison)),
        "gain of related minus gain of control languages, points",
    )


def forest(
    comparison: Comparison, title: str, rows: Sequence[Row], axis: str, about: str | None = None
) -> Figure:
    """One row per estimate, the margin shaded; `axis` and `about` are texts, see `sheet`."""
    margin = 100 * comparison.margin
    left = max(text_width(row.label, 9, row.weight) for row in rows) + 0.4
    figure, axes = sheet(
        comparison,
        title,
        0.25 * (len(rows) + 0.4),
        Margins(left=left, right=RIGHT),
        about=about,
    )
    axes.axvspan(-margin, margin, color=MARGIN_COLOUR, alpha=0.35, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    reach = _reach(rows, margin)
    edge = 1 + (RIGHT - 0.07) / (WIDTH - left - RIGHT)  # right end of the printed estimates
    for y, row in enumerate(rows):
        if not row.heading:
            _draw(axes, y, row, reach, edge)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(fontweight=row.weight, color=FAINT if row.heading else INK)
    axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -0.8))
    axes.tick_params(axis="y", length=0, pad=8)
    axes.set_xlabel(axis)
    legend(
        figure,
        [
            Line2D([], [], color=INK, linewidth=4.5, label="90% interval"),
            Line2D([], [], color=INK, linewidth=1.6, label="95% interval"),
            Patch(color=MARGIN_COLOUR, alpha=0.35, label=f"margin, ±{margin:.1f} points"),
        ],
    )
    return figure


def _draw(axes: Axes, y: int, row: Row, reach: float, edge: float) -> None:
    """An estimate with its intervals, arrows where they extend beyond the axis, and numbers."""
    wide = row.interval_95
    unbounded = wide is None or all(map(math.isinf, wide))
    bounds = interval_points(wide) if wide and not unbounded else "(no interval)" if wide else ""
    axes.text(
        edge, y, f"{points(row.estimate)} {bounds}".strip(),
        transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=9, color=INK,
        fontweight=row.weight,
    )  # fmt: skip
    if math.isnan(row.estimate):
        return
    for interval, width in ((wide, 1.6), (row.interval_90, 4.5)):
        if interval is not None and not all(map(math.isinf, interval)):
            ends = [_clipped(100 * end, reach) for end in interval]
            axes.plot(ends, [y, y], color=INK, linewidth=width, solid_capstyle="butt")
    if wide and not unbounded:
        for end, arrow, side in ((wide.low, "<", -1), (wide.high, ">", 1)):
            if side * 100 * end > reach:
                axes.plot(side * reach, y, arrow, color=INK, markersize=6, clip_on=False)
    axes.plot(
        _clipped(100 * row.estimate, reach), y, "o", color="white", markeredgecolor=INK,
        markersize=8 if row.bold else 6, zorder=3,
    )  # fmt: skip


def _rows(comparison: Comparison) -> Iterator[Row]:
    several = len(comparison.models) > 1
    name = f"mean of {len(comparison.models)} models" if several else "permutation"
    yield _row(name, comparison.contrast, bold=True)
    if min(comparison.contrast.n_related, comparison.contrast.n_control) >= FEWEST_FOR_WELCH:
        yield Row("Welch's t", comparison.contrast.estimate, comparison.contrast.welch.interval)
    if several:
        labels = model_labels(comparison)
        yield Row("by model")
        for model in comparison.models:
            yield _row(labels[model.label], model.contrasts[Measure.ACCURACY])
    others = [each for each in comparison.conditions if each != comparison.condition]
    if others:
        yield Row(f"other conditions against {comparison.against}")
        for condition in others:
            gains = comparison.conditions[condition].overall
            yield _row(condition, gains.contrasts[Measure.ACCURACY])
    adjusted = [
        (adjustment.covariates, adjustment.contrast)
        for adjustment in comparison.adjustments
        if adjustment.contrast is not None and not adjustment.extrapolates
    ]
    if adjusted:
        yield Row("checks, at equal ...")
        for covariates, result in adjusted:
            yield Row(", ".join(covariates), result.estimate, result.interval)
    if comparison.double_differences:
        yield Row("double difference")
        for double in comparison.double_differences:
            yield _row(f"against {double.name}", double.contrast)


def _row(label: str, contrast: Contrast, bold: bool = False) -> Row:
    test = contrast.permutation
    return Row(label, contrast.estimate, test.interval_95, test.interval_90, bold)


def _reach(rows: Sequence[Row], margin: float) -> float:
    """Half the width of the axis: a single very wide interval does not squeeze the others."""
    ends = [
        100 * end
        for row in rows
        if row.interval_95
        for end in row.interval_95
        if math.isfinite(end)
    ]
    first = [100 * end for end in rows[0].interval_95 or () if math.isfinite(end)]
    estimates = [100 * row.estimate for row in rows if math.isfinite(row.estimate)]
    usual = float(np.quantile(np.abs(ends), 0.8)) if ends else 0.0
    widest = max(map(abs, ends), default=0.0)
    return 1.1 * max([2 * margin, min(widest, 2 * usual), *map(abs, first), *map(abs, estimates)])


def _clipped(value: float, reach: float) -> float:
    return min(max(value, -reach), reach)
