"""Scatter plots of gains: against the baseline, and against the gain from chain of thought."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainSlope
from isogloss.analysis.gains import GROUPS
from isogloss.formatting import decimal, interval_points, interval_text, points
from isogloss.languages import language
from isogloss.report.language_axes import CROWDED
from isogloss.report.point_labels import PointLabel, label_points
from isogloss.report.style import (
    COLOURS,
    FAINT,
    GRID,
    INK,
    MARKERS,
    WIDTH,
    Margins,
    model_labels,
    sheet,
    widened,
)
from isogloss.types import Condition, Group, Units

NAIVE = "#999999"
SIDE, LEFT = 4.4, 0.7  # inches
MOST_LABELS = 30  # of languages where points are crowded
OVER = {
    Units.LANGUAGES: "over languages",
    Units.LANGUAGES_WITHIN_MODELS: "within models",
    Units.MODELS: "over models",
}


class Point(NamedTuple):
    """A language of one model, as fractions."""

    code: str
    group: Group
    x: float
    y: float


class Cloud(NamedTuple):
    """The points of one model; `number` marks its mean."""

    label: str
    number: int
    points: Sequence[Point]

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest x of related and control languages."""
        xs = [point.x for point in self._in_contrast()]
        return min(xs), max(xs)

    @property
    def centre(self) -> tuple[float, float]:
        """Mean of related and control languages."""
        x, y = np.mean([(point.x, point.y) for point in self._in_contrast()], axis=0)
        return float(x), float(y)

    def _in_contrast(self) -> list[Point]:
        return [point for point in self.points if point.group in (Group.RELATED, Group.CONTROL)]


def baseline(comparison: Comparison) -> Figure:
    """Gain against baseline: languages, means of models, cross-fitted and naive lines."""
    clouds = _clouds(
        comparison,
        {
            model.label: [
                Point(row.code, row.group, row.before, row.gain) for row in model.languages
            ]
            for model in comparison.models
        },
    )
    title = "Gain against baseline"
    if comparison.baseline_slopes:
        test = comparison.baseline_slopes[-1].test
        title += (
            f": slope {decimal(test.slope, 2)} cross-fitted, {decimal(test.naive, 2)} naive"
            if test.bounded
            else ": no slope beyond sampling noise"
        )
    figure, axes = _scatter(
        comparison, clouds, comparison.baseline_slopes, title, chance=comparison.chance
    )
    if axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        axes.axhline(0, color=INK, linewidth=1, zorder=0.5)
    axes.set_xlabel(f"accuracy before ({comparison.against}), %")
    axes.set_ylabel("gain, points")
    return figure


def reasoning(comparison: Comparison) -> Figure:
    """Gain from tuning against gain from chain of thought, with the diagonal of equal gains."""
    cot_gains = {
        model.label: model.gain_by_code
        for model in comparison.conditions[Condition.BASE_COT].models
    }
    clouds = _clouds(
        comparison,
        {
            model.label: [
                Point(row.code, row.group, cot_gains[model.label][row.code], row.gain)
                for row in model.languages
            ]
            for model in comparison.conditions[Condition.TUNED].models
            if model.label in cot_gains
        },
    )
    difference = comparison.gain_agreements[-1].difference
    figure, axes = _scatter(
        comparison,
        clouds,
        [agreement.slope for agreement in comparison.gain_agreements],
        f"Tuned minus chain of thought: {points(difference.estimate)} points, 95% interval "
        f"{interval_points(difference.interval_95)}",
        diagonal=True,
    )
    axes.axhline(0, color=GRID, linewidth=1, zorder=0.4)
    axes.axvline(0, color=GRID, linewidth=1, zorder=0.4)
    axes.set_xlabel("gain with chain of thought, points")
    axes.set_ylabel("gain with fine-tuning, points")
    return figure


def _clouds(comparison: Comparison, points: Mapping[str, Sequence[Point]]) -> list[Cloud]:
    """The points of each model, numbered in the order of the comparison."""
    labels = model_labels(comparison)
    return [
        Cloud(labels[model.label], number, points[model.label])
        for number, model in enumerate(comparison.models, start=1)
        if model.label in points
    ]


def _scatter(
    comparison: Comparison,
    clouds: Sequence[Cloud],
    slopes: Sequence[GainSlope],
    title: str,
    *,
    diagonal: bool = False,
    chance: float | None = None,
) -> tuple[Figure, Axes]:
    """Points by group, numbered means of several models, and lines; the legend is at the right.

    `chance` is drawn on the x axis.
    """
    several = len(clouds) > 1
    height = max(SIDE, 2.9 + 0.2 * len(clouds) * several)
    margins = Margins(left=LEFT, right=WIDTH - LEFT - SIDE, below=0.6)
    figure, axes = sheet(comparison, title, height, margins)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines["left"].set_visible(True)
    handles = list(_draw_points(axes, clouds))
    if chance is not None:
        axes.axvline(100 * chance, color=INK, linewidth=1, linestyle="--", zorder=0.8)
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle="--", label="chance"))
    axes.set(xlim=widened(axes.get_xlim()), ylim=widened(axes.get_ylim()))
    if diagonal:
        handles.append(_draw_diagonal(axes, clouds))
    for place, slope in enumerate(slopes, start=1):
        handles += _draw_slope(axes, slope, clouds, primary=place == len(slopes))
    if several:
        handles += _draw_centres(axes, clouds)
    _label(axes, clouds)
    top = axes.get_position().y1 + 0.1 / figure.get_figheight()
    figure.legend(
        handles=handles, loc="upper left", frameon=False, fontsize=9, labelspacing=0.55,
        bbox_to_anchor=((0.75 + SIDE) / WIDTH, top),
    )  # fmt: skip
    return figure, axes


def _draw_points(axes: Axes, clouds: Sequence[Cloud]) -> Iterator[Artist]:
    crowded = len(clouds) > 1 or len(clouds[0].points) > CROWDED
    for place, group in enumerate(GROUPS):
        members = [point for cloud in clouds for point in cloud.points if point.group == group]
        if not members:
            continue
        colour, marker = COLOURS[group], MARKERS[group]
        axes.plot(
            [100 * point.x for point in members], [100 * point.y for point in members],
            marker, color=colour, markersize=4 if crowded else 6.5,
            alpha=0.4 if crowded else 0.85, markeredgewidth=0, zorder=2.5 - 0.1 * place,
        )  # fmt: skip
        yield Line2D([], [], color=colour, marker=marker, ls="", label=group)


def _draw_diagonal(axes: Axes, clouds: Sequence[Cloud]) -> Artist:
    values = [
        100 * value for cloud in clouds for point in cloud.points for value in (point.x, point.y)
    ]
    pad = 0.05 * (max(values) - min(values)) + 0.5
    limits = widened((min(values) - pad, max(values) + pad))
    axes.plot(limits, limits, color=INK, linewidth=1, linestyle=":", zorder=0.5)
    axes.set(xlim=limits, ylim=limits)
    return Line2D([], [], color=INK, linewidth=1, linestyle=":", label="equal gains")


def _draw_slope(
    axes: Axes, slope: GainSlope, clouds: Sequence[Cloud], *, primary: bool
) -> Iterator[Artist]:
    """Cross-fitted lines and, of the primary slope, naive ones; without a slope only its label."""
    test = slope.test
    colour, width = (INK, 1.8) if primary else (FAINT, 0.8)
    label = f"{OVER[slope.units]}, cross-fitted:\n"
    if test.bounded:
        label += f"{decimal(test.slope, 2)} {interval_text(test.interval, 2)}"
        _draw_lines(axes, slope, clouds, test.slope, Line2D([], [], color=colour, linewidth=width))
    else:
        label += "no slope beyond noise"
    style = "-" if test.bounded else ""
    yield Line2D([], [], ls=style, color=colour, linewidth=width, label=label)
    if primary and math.isfinite(test.naive):
        naive = Line2D(
            [], [], ls="--", color=NAIVE, linewidth=width, label=f"naive {decimal(test.naive, 2)}"
        )
        _draw_lines(axes, slope, clouds, test.naive, naive)
        yield naive


def _draw_lines(
    axes: Axes, slope: GainSlope, clouds: Sequence[Cloud], value: float, style: Line2D
) -> None:
    """Lines of one slope through the means: of all models, or of each."""
    if slope.units == Units.MODELS:
        ranges = [(slope.x_min, slope.x_max)]
        x, y = np.mean([cloud.centre for cloud in clouds], axis=0)
        centres = [(float(x), float(y))]
    else:
        ranges = [cloud.x_range for cloud in clouds]
        centres = [cloud.centre for cloud in clouds]
    for (low, high), (x, y) in zip(ranges, centres, strict=True):
        axes.plot(
            [100 * low, 100 * high], [100 * (y + value * (end - x)) for end in (low, high)],
            linestyle=style.get_linestyle(), color=style.get_color(),
            linewidth=style.get_linewidth(), zorder=3,
        )  # fmt: skip


def _draw_centres(axes: Axes, clouds: Sequence[Cloud]) -> Iterator[Artist]:
    for cloud in clouds:
        x, y = (100 * value for value in cloud.centre)
        axes.plot(x, y, "o", color="white", markeredgecolor=INK, markersize=7, zorder=4)
        yield Line2D(
            [], [], ls="", marker=f"${cloud.number}$", markersize=5 if cloud.number < 10 else 7,
            color=INK, markeredgewidth=0, label=cloud.label,
        )  # fmt: skip


def _label(axes: Axes, clouds: Sequence[Cloud]) -> None:
    """Names of languages, or of several models their numbers and some codes of languages."""
    several = len(clouds) > 1
    crowded = several or len(clouds[0].points) > CROWDED
    labels = [
        PointLabel(
            100 * point.x,
            100 * point.y,
            point.code.partition("_")[0] if crowded else language(point.code).name,
            COLOURS[point.group],
            last=point.group == Group.CONTROL,
        )
        for cloud in clouds
        for point in cloud.points
    ]
    if several:
        labels += [
            PointLabel(100 * cloud.centre[0], 100 * cloud.centre[1], str(cloud.number), INK, True)
            for cloud in clouds
        ]
    label_points(axes, labels, 7 if crowded else 8, MOST_LABELS + len(clouds) if crowded else None)
