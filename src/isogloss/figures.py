"""Figures of a comparison, drawn without pyplot and so without global state.

Groups are told apart by marker as well as by colour (Okabe and Ito's palette, safe for colour-blind
readers). Names are English, so no font beyond matplotlib's own is needed.
"""

import math
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.comparison import Comparison, interval_points, mean_parts, points
from isogloss.gains import LanguageGain

COLOURS = {"source": "#000000", "variety": "#009E73", "related": "#D55E00", "control": "#0072B2"}
MARKERS = {"source": "D", "variety": "^", "related": "o", "control": "s"}
PARTS = {"comprehension": ("#0072B2", ""), "format": ("#E69F00", "////")}
INK, FAINT = "#333333", "#888888"


class Rows(NamedTuple):
    """Where languages and group headings stand, from the top down."""

    languages: list[tuple[float, LanguageGain]]
    headings: list[tuple[float, str]]

    @property
    def height(self) -> float:
        """Number of rows, headings and gaps included."""
        return max(y for y, _ in self.languages) + 1


def gains(comparison: Comparison) -> Figure:
    """Forest plot: gain of each language with its 95% interval, and the mean of each group."""
    rows = _rows(comparison)
    figure, axes = _by_language(comparison, rows)
    axes.axvline(0, color=INK, linewidth=1)
    for y, row in rows.languages:
        colour = COLOURS[row.group]
        if math.isfinite(row.se):
            axes.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=1.4)
        axes.plot(100 * row.gain, y, MARKERS[row.group], color=colour, markersize=6)
    for name, mean in comparison.means.items():
        ys = [y for y, row in rows.languages if row.group == name]
        if len(ys) > 1:
            axes.plot(
                [100 * mean.gain] * 2,
                [min(ys) - 0.5, max(ys) + 0.5],
                color=COLOURS[name],
                linewidth=5,
                alpha=0.25,
                solid_capstyle="butt",
                zorder=0,
            )
    axes.set_xlabel("gain in accuracy, points (95% interval, clustered by passage)")
    figure.legend(
        handles=[Line2D([], [], color=FAINT, linewidth=5, alpha=0.5, label="mean of the group")],
        loc="outside lower right",
        frameon=False,
        fontsize=9,
    )
    _title(figure, f"Gain with {comparison.change}, by language", comparison)
    return figure


def before_after(comparison: Comparison) -> Figure:
    """Dumbbells: accuracy of each language before and after, with the chance level dashed."""
    rows = _rows(comparison)
    figure, axes = _by_language(comparison, rows)
    for y, row in rows.languages:
        colour, marker = COLOURS[row.group], MARKERS[row.group]
        base, tuned = 100 * row.base, 100 * row.tuned
        axes.plot([base, tuned], [y, y], color=colour, linewidth=3, alpha=0.35, zorder=1)
        axes.plot(base, y, marker, color=colour, markerfacecolor="white", markersize=6.5, zorder=2)
        axes.plot(tuned, y, marker, color=colour, markersize=6.5, zorder=3)
        axes.text(
            1.085, y, points(row.gain), transform=axes.get_yaxis_transform(),
            ha="right", va="center", fontsize=9, color=colour,
        )  # fmt: skip
    axes.text(
        1.085, -0.9, "gain", transform=axes.get_yaxis_transform(),
        ha="right", va="center", fontsize=9, color=FAINT,
    )  # fmt: skip
    handles = [
        Line2D([], [], color=FAINT, marker="o", markerfacecolor="white", ls="", label="before"),
        Line2D([], [], color=FAINT, marker="o", ls="", label="after"),
    ]
    if comparison.chance is not None:
        axes.axvline(100 * comparison.chance, color=INK, linewidth=1, linestyle="--", zorder=0.8)
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle="--", label="chance"))
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    axes.set_xlabel(f"accuracy on {comparison.task}, %")
    contrast = comparison.accuracy
    _title(
        figure,
        f"{sentence(comparison.change)}: related {points(contrast.mean_related)} points, "
        f"control {points(contrast.mean_control)}",
        comparison,
    )
    return figure


def parts(comparison: Comparison) -> Figure:
    """Stacked bars: format part and comprehension part of each language's gain in free answers.

    Parts of opposite sign stand on either side of zero; the dot is their sum.
    """
    rows = _rows(comparison)
    figure, axes = _by_language(comparison, rows)
    axes.axvline(0, color=INK, linewidth=1)
    for y, row in rows.languages:
        if row.free_gain is None or row.format_part is None or row.comprehension_part is None:
            continue
        ends = {1: 0.0, -1: 0.0}
        for name, value in (
            ("comprehension", row.comprehension_part),
            ("format", row.format_part),
        ):
            colour, hatch = PARTS[name]
            side = 1 if value >= 0 else -1
            axes.barh(
                y, 100 * value, left=100 * ends[side], height=0.62,
                color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, zorder=2,
            )  # fmt: skip
            ends[side] += value
        axes.plot(100 * row.free_gain, y, "D", color=INK, markersize=4.5, zorder=3)
    axes.margins(x=0.04)
    axes.set_xlabel("gain in accuracy of answers as given, points")
    handles: list[Artist] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=f"{name} part")
        for name, (colour, hatch) in PARTS.items()
    ]
    handles.append(Line2D([], [], color=INK, marker="D", ls="", markersize=4.5, label="sum"))
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    mean = mean_parts(comparison)
    _title(
        figure,
        f"Format {points(mean['gain_format'])} points, comprehension "
        f"{points(mean['gain_comprehension'])}, on average",
        comparison,
    )
    return figure


def sentence(text: str) -> str:
    """The text with its first letter a capital, and the rest as it is."""
    return text[:1].upper() + text[1:]


def contrast(comparison: Comparison) -> Figure:
    """The relatedness contrast with its intervals against the equivalence margin."""
    test, welch = comparison.accuracy.permutation, comparison.accuracy.welch
    estimate, margin = 100 * comparison.accuracy.estimate, 100 * comparison.margin
    lines = [
        (0, test.interval_95, 1.6, "permutation, 95%"),
        (0, test.interval_90, 5.0, "permutation, 90%"),
        (1, welch.interval, 1.6, "Welch, 95%"),
    ]
    ends = [100 * end for _, line, _, _ in lines for end in line if math.isfinite(end)]
    reach = 1.15 * max([2 * margin, abs(estimate), *map(abs, ends)])
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(-margin, margin, color="#F0E442", alpha=0.35, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    for y, line, width, _ in lines:
        low, high = max(100 * line.low, -reach), min(100 * line.high, reach)
        axes.plot([low, high], [y, y], color=INK, linewidth=width, solid_capstyle="butt")
        for end, arrow, side in ((line.low, "<", -1), (line.high, ">", 1)):
            if math.isinf(end):
                axes.plot(side * reach * 0.99, y, arrow, color=INK, markersize=8, clip_on=False)
    for y in (0, 1):
        axes.plot(estimate, y, "o", color="white", markeredgecolor=INK, markersize=9, zorder=3)
    kind = "exact" if test.exact else "Monte Carlo"
    axes.set_yticks([0, 1], [f"permutation\n({kind})", "Welch's t"])
    axes.set(xlim=(-reach, reach), ylim=(1.6, -0.6))
    axes.set_xlabel("mean gain of related minus mean gain of control languages, points")
    _plain(axes)
    figure.legend(
        handles=[
            Line2D([], [], color=INK, linewidth=5, label="90% interval"),
            Line2D([], [], color=INK, linewidth=1.6, label="95% interval"),
            Patch(color="#F0E442", alpha=0.35, label=f"margin, ±{margin:.1f} points"),
        ],
        loc="outside lower right",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    _title(
        figure,
        f"Relatedness contrast {points(comparison.accuracy.estimate)} points, 95% interval "
        f"{interval_points(test.interval_95)}",
        comparison,
    )
    return figure


def _rows(comparison: Comparison) -> Rows:
    languages: list[tuple[float, LanguageGain]] = []
    headings: list[tuple[float, str]] = []
    y = 0.0
    for name in COLOURS:
        if members := comparison.members(name):
            headings.append((y, name))
            languages += [(y + 1 + i, row) for i, row in enumerate(members)]
            y += len(members) + 1.5
    return Rows(languages, headings)


def _by_language(comparison: Comparison, rows: Rows) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.6, 1.5 + 0.235 * rows.height), layout="constrained")
    axes = figure.add_subplot()
    titles = {
        "source": "source",
        "variety": "varieties of the source",
        "related": f"related: {comparison.branch}",
        "control": "control",
    }
    places = [(y, f"{row.name} ({row.code})", INK, "normal") for y, row in rows.languages]
    places += [(y, titles[name], COLOURS[name], "bold") for y, name in rows.headings]
    axes.set_yticks([y for y, *_ in places], [text for _, text, *_ in places])
    for label, (_, _, colour, weight) in zip(axes.get_yticklabels(), places, strict=True):
        label.set(color=colour, fontweight=weight, fontsize=9)
    axes.set_ylim(rows.height - 0.3, -0.6)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _title(figure: Figure, text: str, comparison: Comparison) -> None:
    test = comparison.accuracy
    figure.suptitle(
        f"{text}\n", x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK,
    )  # fmt: skip
    figure.text(
        0.01,
        1 - 0.42 / figure.get_figheight(),
        f"{comparison.task}, {comparison.format} format; {test.n_related} related and "
        f"{test.n_control} control languages; {test.verdict}",
        ha="left",
        va="center",
        fontsize=9.5,
        color=FAINT,
    )
