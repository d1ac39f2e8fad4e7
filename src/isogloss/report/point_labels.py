"""Labels of points in a scatter plot that overlap neither each other nor the points."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from isogloss.report.style import FAINT, text_width

MARKER = 0.05  # half the width of a point, inches
PAD = 0.02
DISTANCES = (0.06, 0.14, 0.24, 0.36, 0.5, 0.7, 0.9, 1.2, 1.5)  # inches; a line leads to far ones
WITHOUT_LINE = 0.14
# Beside and above or below first, then what is between.
STEPS = (0, 8, 2, 6, 14, 10, 4, 12, 1, 7, 15, 9, 3, 5, 13, 11)
DIRECTIONS = tuple((math.cos(step * math.pi / 8), math.sin(step * math.pi / 8)) for step in STEPS)


class PointLabel(NamedTuple):
    """A text for the point at x and y, in the units of the axes.

    `bold` labels are placed first, then those that are not `last`.
    """

    x: float
    y: float
    text: str
    colour: str
    bold: bool = False
    last: bool = False


class Box(NamedTuple):
    """A rectangle in inches from the lower left corner of the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Whether they have any area in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def label_points(
    axes: Axes, labels: Sequence[PointLabel], size: float, most: int | None = None
) -> list[Box]:
    """Write labels beside their points where there is room; return the boxes of those written.

    `labels` has every point, those without a text too, and the limits of the axes are final. Of
    equal labels those farthest from the middle come first. At most `most` are written; then those
    that are not bold stand beside their points, without a line.
    """
    width, height = _inches(axes)
    places = [_place(axes, label, width, height) for label in labels]
    points = [Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in places]
    order = sorted(
        (place for place, label in enumerate(labels) if label.text),
        key=lambda place: (
            not labels[place].bold,
            labels[place].last,
            -math.hypot(places[place][0] - width / 2, places[place][1] - height / 2),
        ),
    )
    written: list[Box] = []
    for place in order:
        if most is not None and len(written) >= most:
            break
        near = most is not None and not labels[place].bold
        for box, distance in _boxes(labels[place], places[place], size):
            if near and distance > WITHOUT_LINE:
                break
            inside = box.left >= 0 and box.bottom >= 0 and box.right <= width and box.top <= height
            if inside and not any(map(box.overlaps, [*written, *points])):
                _write(axes, labels[place], places[place], box, size, distance)
                written.append(box)
                break
    return written


def _inches(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes."""
    box = axes.get_window_extent()
    dpi = axes.figure.dpi
    return float(box.width / dpi), float(box.height / dpi)


def _place(axes: Axes, label: PointLabel, width: float, height: float) -> tuple[float, float]:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return (
        (label.x - left) / (right - left) * width,
        (label.y - bottom) / (top - bottom) * height,
    )


def _boxes(
    label: PointLabel, place: tuple[float, float], size: float
) -> Iterator[tuple[Box, float]]:
    """Where the label can stand, nearest first, with the distance from its point."""
    wide = text_width(label.text, size, "bold" if label.bold else "normal") + 2 * PAD
    high = 1.1 * size / 72 + PAD
    for distance in DISTANCES:
        for across, up in DIRECTIONS:
            x = place[0] + across * (distance + wide / 2)
            y = place[1] + up * (distance + high / 2)
            yield Box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), distance


def _write(
    axes: Axes,
    label: PointLabel,
    place: tuple[float, float],
    box: Box,
    size: float,
    distance: float,
) -> None:
    offset = (
        72 * ((box.left + box.right) / 2 - place[0]),
        72 * ((box.bottom + box.top) / 2 - place[1]),
    )
    line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    axes.annotate(
        label.text, (label.x, label.y), offset, textcoords="offset points", fontsize=size,
        color=label.colour, fontweight="bold" if label.bold else "normal",
        ha="center", va="center", zorder=6,
        arrowprops=line if distance > WITHOUT_LINE else None,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )  # fmt: skip
