"""What all figures share: colours, layout in inches, names that the font can draw.

Figures are drawn without pyplot, so without global state. Groups differ in marker as well as in
colour (Okabe and Ito's palette, safe for colour-blind readers). The layout is computed from text
widths, since matplotlib's layout engines draw every figure twice.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.types import Group

COLOURS = {
    Group.SOURCE: "#000000",
    Group.VARIETY: "#009E73",
    Group.RELATED: "#D55E00",
    Group.CONTROL: "#0072B2",
}
MARKERS = {Group.SOURCE: "D", Group.VARIETY: "^", Group.RELATED: "o", Group.CONTROL: "s"}
INK, FAINT, GRID = "#333333", "#767676", "#dddddd"
MARGIN_COLOUR = "#F0E442"
WIDTH = 7.6  # inches
LEAST_SPAN = 4.0  # points
LONGEST_NAME = 24  # characters of a model's name in a figure


class Margins(NamedTuple):
    """Space around the axes in inches; `above` is below the title."""

    left: float
    right: float = 0.25
    above: float = 0.0
    below: float = 0.9


def drawable(text: str, otherwise: str = "?", longest: int = LONGEST_NAME) -> str:
    """The text on one line; `otherwise` if the font lacks one of its characters.

    Text longer than `longest` is shortened in the middle. matplotlib itself joins and orders
    letters written from right to left.
    """
    text = " ".join(text.split())
    if not text or any(ord(letter) not in _letters() for letter in text):
        return otherwise
    if len(text) > longest:
        tail = longest // 2 - 1
        text = f"{text[: longest - tail - 1]}…{text[-tail:]}"
    return text.replace("$", r"\$")  # matplotlib reads a pair of them as mathematics


def model_labels(comparison: Comparison) -> dict[str, str]:
    """The name of each model in figures: its own if that can be drawn and is unique."""
    names = [model.label for model in comparison.models]
    short = [drawable(name, "") for name in names]
    return {
        name: label if label and short.count(label) == 1 else f"model {number}"
        for number, (name, label) in enumerate(zip(names, short, strict=True), start=1)
    }


def sheet(
    comparison: Comparison,
    title: str,
    height: float,
    margins: Margins,
    width: float = WIDTH,
    about: str | None = None,
) -> tuple[Figure, Axes]:
    """A figure with a title, a line about the comparison, and axes `height` inches high.

    The line names task, format and models, then `about`: the languages and verdict of the contrast
    by default.
    """
    if about is None:
        contrast = comparison.contrast
        about = (
            f"{contrast.n_related} related and {contrast.n_control} control languages; "
            f"{claim_verdicts(comparison).kinship}"
        )
    several = f"{len(comparison.models)} models; " if len(comparison.models) > 1 else ""
    about = f"{drawable(comparison.task)}, {comparison.format} format; {several}{about}"
    title_lines = _wrapped(title, width - 0.3, 12, "bold")
    about_lines = _wrapped(about, width - 0.3, 9.5)
    top = 0.32 + 0.21 * len(title_lines) + 0.17 * len(about_lines) + margins.above
    total = top + height + margins.below
    figure = Figure(figsize=(width, total))
    axes = figure.add_axes(
        (
            margins.left / width,
            margins.below / total,
            (width - margins.left - margins.right) / width,
            height / total,
        )
    )
    figure.text(
        0.12 / width, 1 - 0.1 / total, "\n".join(title_lines),
        va="top", fontsize=12, fontweight="bold", color=INK,
    )  # fmt: skip
    figure.text(
        0.12 / width, 1 - (0.17 + 0.2 * len(title_lines)) / total, "\n".join(about_lines),
        va="top", fontsize=9.5, color=FAINT,
    )  # fmt: skip
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure, axes


def widened(limits: tuple[float, float]) -> tuple[float, float]:
    """Axis limits that span at least four points, even if all values are equal."""
    low, high = limits
    missing = max(0.0, LEAST_SPAN - (high - low))
    return low - missing / 2, high + missing / 2


def legend(figure: Figure, handles: Sequence[Artist], ncols: int = 3) -> None:
    """A legend at the lower left."""
    figure.legend(
        handles=handles, loc="lower left", ncols=ncols, frameon=False, fontsize=9,
        borderaxespad=0.2, bbox_to_anchor=(0.01, 0.0),
    )  # fmt: skip


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in inches."""
    font = FontProperties(size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


@cache
def _letters() -> frozenset[int]:
    """Code points that the default font can draw."""
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def _wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size, weight) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
