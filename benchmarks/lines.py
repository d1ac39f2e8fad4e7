"""Straight lines: the fit of cost to size, and their picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.plan import LINES


class Line(NamedTuple):
    """Least squares `intercept + slope * x`; `residual` is the largest, as a share of its point."""

    slope: float
    intercept: float
    r2: float
    residual: float


class Points(NamedTuple):
    """Sizes, and seconds and peak memory (MB) at each."""

    x: list[float]
    seconds: list[float]
    peak_mb: list[float]


def fit(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """The line through points; None of fewer than three sizes, through two of which one goes."""
    if len(set(x)) < 3:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    values = np.asarray(y, dtype=float)
    error = values - (intercept + slope * np.asarray(x))
    spread = ((values - values.mean()) ** 2).sum()
    r2 = 1.0 - (error**2).sum() / spread
    return Line(float(slope), float(intercept), float(r2), float(np.abs(error / values).max()))


def points(measurements: Sequence[dict[str, Any]], axis: str) -> Points:
    """The points of one line, in order of size; of longer passages the time of one item."""
    found = []
    for one in measurements:
        if one["part"] != "lines" or one["case"] != axis or "error" in one:
            continue
        if axis == "passages":
            found.append((one["prompt_tokens"], one["seconds"] / one["items"], one["peak_mb"]))
        else:
            size = float(one["contender"].rpartition(" ")[2])
            found.append((size, one["seconds"], one["peak_mb"]))
    return (
        Points(*(list(column) for column in zip(*sorted(found), strict=True)))
        if found
        else (Points([], [], []))
    )


def draw(measurements: Sequence[dict[str, Any]], path: Path) -> bool:
    """Write the picture of all lines as SVG; False where there is none to be drawn."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    found = {axis: points(measurements, axis) for axis in LINES}
    lines = {axis: line for axis, at in found.items() if (line := fit(at.x, at.seconds))}
    if not lines:
        return False
    style = {"svg.fonttype": "none", "svg.hashsalt": "isogloss", "font.size": 8}
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(
            2, len(lines), figsize=(2.4 * len(lines), 3.6), sharex="col", squeeze=False
        )
        for place, (axis, line) in enumerate(lines.items()):
            at = found[axis]
            above, below = panels[0][place], panels[1][place]
            ends = [0.0, max(at.x)]
            above.plot(ends, [line.intercept + line.slope * x for x in ends], color="#888", lw=1)
            above.plot(at.x, at.seconds, "o", ms=4, color="#0b6e99")
            above.set_title(f"R² {line.r2:.4f}", fontsize=8)
            below.plot(at.x, [peak / 1024 for peak in at.peak_mb], "o", ms=4, color="#b5462f")
            below.set_xlabel(LINES[axis])
            above.set_ylim(0, 1.1 * max(at.seconds))
            below.set_ylim(0, 1.2 * max(at.peak_mb) / 1024)
            above.set_ylabel("seconds an item" if axis == "passages" else "seconds")
            below.set_ylabel("peak memory, GB")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
    return True
