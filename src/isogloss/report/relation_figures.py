"""Figures of what gains go with: kinship, the baseline, the gain from chain of thought."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainSlope
from isogloss.analysis.gains import GROUPS, ConditionGains
from isogloss.formatting import decimal, interval_points, points
from isogloss.report.evidence import contrast_interval
from isogloss.report.style import (
    COLOURS,
    FAINT,
    GRID,
    INK,
    MARGIN_COLOUR,
    MARKERS,
    WIDTH,
    legend,
    model_labels,
    sheet,
    text_width,
)
from isogloss.stats.contrasts import Contrast
from isogloss.types import Condition, Group, Interval, Measure

NAIVE = "#999999"
SQUARE = 4.4  # inches, the sides of a scatter plot


class Point(NamedTuple):
    """A language of one model."""

    group: str
    x: float
    y: float


class Line(NamedTuple):
    """A row of the forest of contrasts; one without an estimate is a heading."""

    label: str
    estimate: float = math.nan
    wide: Interval | None = None
    narrow: Interval | None = None
    bold: bool = False


def baseline(comparison: Comparison) -> Figure:
    """Gain against baseline: languages, means of models, cross-fitted and naive lines."""
    clouds = {
        model.label: [Point(row.group, row.before, row.gain) for row in model.languages]
        for model in comparison.models
    }
    relations = comparison.baseline_slopes
    title = "Gain against baseline"
    if relations:
        test = relations[-1].test
        title += (
            f": slope {decimal(test.slope, 2)} cross-fitted, {decimal(test.naive, 2)} naively"
            if test.bounded
            else ": the slope cannot be told from noise"
        )
    figure, axes = _scatter(comparison, clouds, relations, title)
    if axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        axes.axhline(0, color=INK, linewidth=1, zorder=0.5)
    axes.set_xlabel(f"accuracy before ({comparison.against}), %")
    axes.set_ylabel("gain, points")
    return figure


def reasoning(comparison: Comparison) -> Figure:
    """Gain from tuning against gain from chain of thought, with the diagonal of equal gains."""
    thinking = {
        model.label: model.gain_by_code
        for model in comparison.conditions[Condition.BASE_COT].models
    }
    clouds = {
        model.label: [
            Point(row.group, thinking[model.label][row.code], row.gain) for row in model.languages
        ]
        for model in comparison.conditions[Condition.TUNED].models
        if model.label in thinking
    }
    difference = comparison.gain_agreements[-1].difference
    way = "above" if difference.estimate >= 0 else "below"
    figure, axes = _scatter(
        comparison,
        clouds,
        [each.slope for each in comparison.gain_agreements],
        f"Tuned {points(abs(difference.estimate), signed=False)} points {way} chain of thought, "
        f"95% interval {interval_points(difference.interval_95)}",
        diagonal=True,
    )
    axes.axhline(0, color=GRID, linewidth=1, zorder=0.4)
    axes.axvline(0, color=GRID, linewidth=1, zorder=0.4)
    axes.set_xlabel("gain with chain of thought, points")
    axes.set_ylabel("gain with fine-tuning, points")
    return figure


def contrast(comparison: Comparison) -> Figure:
    """Forest of contrasts against the margin: overall, models, conditions, adjusted, doubled."""
    lines = list(_lines(comparison))
    margin = 100 * comparison.margin
    left = max(text_width(line.label, 9, _weight(line)) for line in lines) + 0.4
    figure, axes = sheet(
        comparison,
        f"Relatedness contrast {points(comparison.contrast.estimate)} points, "
        f"{_interval_text(comparison.contrast)}",
        0.25 * (len(lines) + 0.4),
        left=left,
        right=1.75,
    )
    reach = _reach(lines, margin)
    beyond = axes.get_yaxis_transform()
    place = 1 + 1.68 / (WIDTH - left - 1.75)
    axes.axvspan(-margin, margin, color=MARGIN_COLOUR, alpha=0.35, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    for y, line in enumerate(lines):
        if line.wide is None:
            continue
        axes.text(
            place, y, f"{points(line.estimate)} {_bounds(line.wide)}", transform=beyond,
            ha="right", va="center", fontsize=9, color=INK,
            fontweight="bold" if line.bold else "normal",
        )  # fmt: skip
        if math.isnan(line.estimate):
            continue
        for interval, width in ((line.wide, 1.6), (line.narrow, 4.5)):
            if interval is None:
                continue
            low, high = (min(max(100 * end, -reach), reach) for end in interval)
            axes.plot([low, high], [y, y], color=INK, linewidth=width, solid_capstyle="butt")
        for end, arrow, side in ((line.wide.low, "<", -1), (line.wide.high, ">", 1)):
            if side * 100 * end > reach:
                axes.plot(side * reach, y, arrow, color=INK, markersize=6, clip_on=False)
        axes.plot(
            min(max(100 * line.estimate, -reach), reach), y, "o", color="white",
            markeredgecolor=INK, markersize=8 if line.bold else 6, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(lines)), [line.label for line in lines], fontsize=9)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set(fontweight=_weight(line), color=FAINT if line.wide is None else INK)
    axes.set(xlim=(-reach, reach), ylim=(len(lines) - 0.4, -0.8))
    axes.tick_params(axis="y", length=0, pad=8)
    axes.set_xlabel("gain of related minus gain of control languages, points")
    legend(
        figure,
        [
            Line2D([], [], color=INK, linewidth=4.5, label="90% interval"),
            Line2D([], [], color=INK, linewidth=1.6, label="95% interval"),
            Patch(color=MARGIN_COLOUR, alpha=0.35, label=f"margin, ±{margin:.1f} points"),
        ],
    )
    return figure


def _interval_text(contrast: Contrast) -> str:
    interval = contrast_interval(contrast)
    return "no 95% interval" if interval == "none" else f"95% interval {interval}"


def _bounds(interval: Interval) -> str:
    unbounded = all(map(math.isinf, interval))
    return "(no interval)" if unbounded else interval_points(interval)


def _weight(line: Line) -> str:
    return "bold" if line.bold or line.wide is None else "normal"


def _lines(comparison: Comparison) -> Iterable[Line]:
    def line(label: str, of: Contrast, bold: bool = False) -> Line:
        return Line(
            label, of.estimate, of.permutation.interval_95, of.permutation.interval_90, bold
        )

    def accuracy(gains: ConditionGains) -> Contrast:
        return gains.contrasts[Measure.ACCURACY]

    several = len(comparison.models) > 1
    name = f"mean of {len(comparison.models)} models" if several else "permutation"
    yield line(name, comparison.contrast, bold=True)
    yield Line("Welch's t", comparison.contrast.estimate, comparison.contrast.welch.interval)
    if several:
        shown = model_labels(comparison)
        yield Line("each model")
        for each in comparison.models:
            yield line(shown[each.label], accuracy(each))
    others = [key for key in comparison.conditions if key != comparison.condition]
    if others:
        yield Line(f"other conditions against {comparison.against}")
        for key in others:
            yield line(key, accuracy(comparison.conditions[key].overall))
    adjusted = [(each.covariates, each.contrast) for each in comparison.adjustments]
    if any(made for _, made in adjusted):
        yield Line("at equal ...")
        for covariates, made in adjusted:
            if made is not None:
                yield Line(", ".join(covariates), made.estimate, made.interval)
    if comparison.double_differences:
        yield Line("double difference")
        for source in comparison.double_differences:
            yield line(f"against {source.name}", source.contrast)


def _reach(lines: Sequence[Line], margin: float) -> float:
    """How far the axis goes to either side: one very wide interval must not squeeze the others."""
    ends = [100 * end for line in lines if line.wide for end in line.wide if math.isfinite(end)]
    first = [100 * end for end in lines[0].wide or () if math.isfinite(end)]
    estimates = [100 * line.estimate for line in lines if math.isfinite(line.estimate)]
    usual = float(np.quantile(np.abs(ends), 0.8)) if ends else 0.0
    widest = max(map(abs, ends), default=0.0)
    return 1.1 * max([2 * margin, min(widest, 2 * usual), *map(abs, first), *map(abs, estimates)])


def _scatter(
    comparison: Comparison,
    clouds: Mapping[str, Sequence[Point]],
    relations: Sequence[GainSlope],
    title: str,
    *,
    diagonal: bool = False,
) -> tuple[Figure, Axes]:
    """Points by group, numbered means of several models, and lines; its keys at the right."""
    several = len(clouds) > 1
    shown = model_labels(comparison)
    number = {model.label: place for place, model in enumerate(comparison.models, start=1)}
    keys: list[Artist] = []
    notes: list[Artist] = []
    drawn = {point.group for cloud in clouds.values() for point in cloud}
    figure, axes = sheet(
        comparison, title, max(SQUARE, 2.9 + 0.2 * len(clouds) * several), left=0.7,
        right=WIDTH - 0.7 - SQUARE, below=0.6,
    )  # fmt: skip
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines["left"].set_visible(True)
    for place, group in enumerate(name for name in GROUPS if name in drawn):
        found = [point for cloud in clouds.values() for point in cloud if point.group == group]
        axes.plot(
            [100 * point.x for point in found], [100 * point.y for point in found],
            MARKERS[group], color=COLOURS[group], markersize=4 if several else 6.5,
            alpha=0.4 if several else 0.85, markeredgewidth=0, zorder=2.5 - 0.1 * place,
        )  # fmt: skip
        keys.append(Line2D([], [], color=COLOURS[group], marker=MARKERS[group], ls="", label=group))
    centres = {label: _centre(cloud) for label, cloud in clouds.items()}
    for place, relation in enumerate(relations):
        notes += _relation(axes, relation, clouds, centres, primary=place == len(relations) - 1)
    if several:
        for label, (x, y) in centres.items():
            axes.plot(
                100 * x, 100 * y, "o", color="white", markeredgecolor=INK, markersize=12, zorder=4
            )
            axes.text(
                100 * x, 100 * y, str(number[label]), fontsize=8, color=INK, zorder=5,
                ha="center", va="center_baseline", clip_on=True,
            )  # fmt: skip
            size = 5 + 2 * (number[label] > 9)
            notes.append(
                Line2D(
                    [],
                    [],
                    ls="",
                    marker=f"${number[label]}$",
                    markersize=size,
                    color=INK,
                    markeredgewidth=0,
                    label=shown[label],
                )
            )
    if diagonal:
        values = [
            100 * value for cloud in clouds.values() for point in cloud for value in point[1:]
        ]
        pad = 0.05 * (max(values) - min(values)) + 0.5
        limits = (min(values) - pad, max(values) + pad)
        axes.plot(limits, limits, color=INK, linewidth=1, linestyle=":", zorder=0.5)
        axes.set(xlim=limits, ylim=limits)
        keys.append(Line2D([], [], color=INK, linewidth=1, linestyle=":", label="equal gains"))
    whole = figure.get_figheight()
    figure.legend(
        handles=keys + notes, loc="upper left", frameon=False, fontsize=9, labelspacing=0.55,
        bbox_to_anchor=((0.75 + SQUARE) / WIDTH, axes.get_position().y1 + 0.1 / whole),
    )  # fmt: skip
    return figure, axes


def _relation(
    axes: Axes,
    relation: GainSlope,
    clouds: Mapping[str, Sequence[Point]],
    centres: Mapping[str, tuple[float, float]],
    *,
    primary: bool,
) -> Iterable[Artist]:
    """Draw the lines of a relation, or say why there is none; handles for the legend."""
    test = relation.test
    bounded = test.bounded
    if relation.units == "models":
        spans = [(relation.x_min, relation.x_max)]
        middles = [tuple(np.mean(list(centres.values()), axis=0))]
    else:
        tested = [[point.x for point in _tested(cloud)] for cloud in clouds.values()]
        spans = [(min(xs), max(xs)) for xs in tested]
        middles = list(centres.values())
    over = "within" if relation.units == "languages within models" else "over"
    over += " models" if relation.units != "languages" else " languages"
    colour, width = (INK, 1.8) if primary else (FAINT, 0.8)
    for slope, style, shade, wanted in (
        (test.slope, "-", colour, bounded),
        (test.naive, "--", NAIVE, primary and math.isfinite(test.naive)),
    ):
        for (low, high), (x, y) in zip(spans, middles, strict=True) if wanted else ():
            axes.plot(
                [100 * low, 100 * high],
                [100 * (y + slope * (end - x)) for end in (low, high)],
                linestyle=style, color=shade, linewidth=width, zorder=3,
            )  # fmt: skip
    interval = f"[{decimal(test.interval.low, 2)}, {decimal(test.interval.high, 2)}]"
    label = f"{over}, cross-fitted:\n"
    label += f"{decimal(test.slope, 2)} {interval}" if bounded else "no line, lost in noise"
    yield Line2D([], [], ls="-" if bounded else "", color=colour, linewidth=width, label=label)
    if primary and math.isfinite(test.naive):
        text = f"naively {decimal(test.naive, 2)}"
        yield Line2D([], [], ls="--", color=NAIVE, linewidth=width, label=text)


def _tested(cloud: Sequence[Point]) -> list[Point]:
    return [point for point in cloud if point.group in (Group.RELATED, Group.CONTROL)]


def _centre(cloud: Sequence[Point]) -> tuple[float, float]:
    """The mean over the languages in the contrast."""
    x, y = np.mean([point[1:] for point in _tested(cloud)], axis=0)
    return float(x), float(y)
