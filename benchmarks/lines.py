"""Straight lines of cost against size: fits and figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.plan import LINES


class Line(NamedTuple):
    """Least-squares fit `intercept + slope * x`; `residual` is the largest relative residual."""

    slope: float
    intercept: float
    r2: float
    residual: float


class Points(NamedTuple):
    """Sizes, with seconds and peak memory (MB) at each size."""

    x: list[float]
    seconds: list[float]
    peak_mb: list[float]


def fit(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """The line through points; None for fewer than three sizes, where any line fits."""
    if len(set(x)) < 3:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    values = np.asarray(y, dtype=float)
    error = values - (intercept + slope * np.asarray(x))
    spread = ((values - values.mean()) ** 2).sum()
    r2 = 1.0 - (error**2).sum() / spread
    return Line(float(slope), float(intercept), float(r2), float(np.abs(error / values).max()))


def points(measurements: Sequence[dict[str, Any]], axis: str) -> Points:
    """The points of one line by size; for longer passages the seconds are per item."""
    rows = []
    for one in measurements:
        if one["part"] != "lines" or one["case"] != axis or "error" in one:
            continue
        if axis == "passages":
            rows.append((one["prompt_tokens"], one["seconds"] / one["items"], one["peak_mb"]))
        else:
            size = float(one["contender"].rpartition(" ")[2])
            rows.append((size, one["seconds"], one["peak_mb"]))
    return (
        Points(*(list(column) for column in zip(*sorted(rows), strict=True)))
        if rows
        else (Points([], [], []))
    )


def draw(measurements: Sequence[dict[str, Any]], path: Path) -> bool:
    """Write the figure of all lines as SVG; False if there is no line to draw."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    sizes = {axis: points(measurements, axis) for axis in LINES}
    lines = {axis: line for axis, at in sizes.items() if (line := fit(at.x, at.seconds))}
    if not lines:
        return False
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "isogloss", "font.size": 8}):
        figure, panels = pyplot.subplots(
            2, len(lines), figsize=(2.4 * len(lines), 3.6), sharex="col", squeeze=False
        )
        for place, (axis, line) in enumerate(lines.items()):
            at = sizes[axis]
            above, below = panels[0][place], panels[1][place]
            ends = [0.0, max(at.x)]
            above.plot(ends, [line.intercept + line.slope * x for x in ends], color="#888", lw=1)
            above.plot(at.x, at.seconds, "o", ms=4, color="#0b6e99")
            above.set_title(f"R² {line.r2:.4f}", fontsize=8)
            below.plot(at.x, [peak / 1024 for peak in at.peak_mb], "o", ms=4, color="#b5462f")
            below.set_xlabel(LINES[axis])
            above.set_ylim(0, 1.1 * max(at.seconds))
            below.set_ylim(0, 1.2 * max(at.peak_mb) / 1024)
            above.set_ylabel("seconds per item" if axis == "passages" else "seconds")
            below.set_ylabel("peak memory, GB")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
    return True
