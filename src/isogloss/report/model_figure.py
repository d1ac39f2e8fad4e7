"""Heat map of gains by model and language."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from isogloss.analysis.comparison import Comparison
from isogloss.formatting import points
from isogloss.report.language_axes import LanguageRows, label_width, language_axes, language_rows
from isogloss.report.style import INK, legend, model_labels, text_width
from isogloss.types import FloatArray, Group

COLUMN, NARROWEST = 0.54, 5.2  # inches
COLOUR_MAP = "PuOr"
LUMINANCE = (0.2126, 0.7152, 0.0722)


def models(comparison: Comparison) -> Figure:
    """Gain of each model in each language; the rows of the headings show group means."""
    names = [model.label for model in comparison.models]
    labels = model_labels(comparison)
    rows = language_rows(comparison)
    left, table = label_width(comparison, rows), COLUMN * len(names)
    slanted = 0.75 * max(text_width(labels[name], 9) for name in names)
    width = max(NARROWEST, left + table + 0.3 + slanted)
    figure, axes = language_axes(
        comparison,
        rows,
        f"Gain with {comparison.change}, by model and language",
        width=width,
        right=width - left - table,
        above=slanted + 0.1,
        below=0.55,
    )
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", bottom=False, labelbottom=False, labeltop=True, length=0)
    axes.set_xlim(0, len(names))
    axes.set_xticks(
        np.arange(len(names)) + 0.4, [labels[name] for name in names],
        rotation=45, ha="left", rotation_mode="anchor", fontsize=9,
    )  # fmt: skip
    by_model = [model.gain_by_code for model in comparison.models]
    largest = max(1e-9, *(abs(gain) for gains in by_model for gain in gains.values()))
    for heading, group in rows.headings:
        _group(axes, rows, group, heading, by_model, largest)
    legend(
        figure,
        [
            Patch(color=colormaps[COLOUR_MAP](0.85), label="gain, points"),
            Patch(color=colormaps[COLOUR_MAP](0.15), label="loss, points"),
        ],
    )
    return figure


def _group(
    axes: Axes,
    rows: LanguageRows,
    group: Group,
    heading: float,
    by_model: list[dict[str, float]],
    largest: float,
) -> None:
    """The rows of one group, with its means beside the heading."""
    ys, members = rows.members(group)
    gain_LM = np.array([[gains[row.code] for gains in by_model] for row in members])
    axes.pcolormesh(
        np.arange(len(by_model) + 1), np.append(ys - 0.5, ys[-1] + 0.5), gain_LM,
        cmap=colormaps[COLOUR_MAP], vmin=-largest, vmax=largest, edgecolors="white", linewidth=0.8,
    )  # fmt: skip
    printed_gains(axes, heading, gain_LM.mean(axis=0), None)
    for y, gain_M in zip(ys, gain_LM, strict=True):
        printed_gains(axes, y, gain_M, largest)


def printed_gains(axes: Axes, y: float, gain_M: FloatArray, largest: float | None) -> None:
    """Print a row of gains: bold without a background, or white on dark cells; skip NaN."""
    for x, gain in enumerate(gain_M):
        if np.isnan(gain):
            continue
        dark = False
        if largest is not None:
            red_green_blue = colormaps[COLOUR_MAP](0.5 + 0.5 * gain / largest)[:3]
            dark = np.dot(red_green_blue, LUMINANCE) < 0.55
        axes.text(
            x + 0.5, y, points(gain), fontsize=8, ha="center", va="center",
            fontweight="bold" if largest is None else "normal", color="white" if dark else INK,
        )  # fmt: skip
