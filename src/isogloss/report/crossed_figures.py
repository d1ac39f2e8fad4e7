"""Figures of the crossed design: the effect of kinship by source, and the gains it comes from."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed import CrossedComparison, CrossedSource
from isogloss.analysis.crossed_frames import BEYOND, crossed_cells_frame
from isogloss.formatting import interval_points, points
from isogloss.languages import language
from isogloss.report.contrast_figure import Row, forest
from isogloss.report.crossed import held_equal
from isogloss.report.model_figure import COLOUR_MAP, COLUMN, NARROWEST, printed_gains
from isogloss.report.style import (
    COLOURS,
    FAINT,
    INK,
    Margins,
    drawable,
    legend,
    model_labels,
    sheet,
    text_width,
)
from isogloss.stats.crossed import CrossedEffect
from isogloss.types import BoolArray, FloatArray, Group

ROW = 0.19  # inches


def crossed_effects(comparison: Comparison, crossed: CrossedComparison) -> Figure:
    """The effect of kinship: overall, by source, by model, and with covariates held equal."""
    effect = crossed.overall
    bounded = np.isfinite(effect.interval_95).all()
    interval = f"95% interval {interval_points(effect.interval_95)}" if bounded else "no interval"
    return forest(
        comparison,
        f"A related source adds {points(effect.estimate)} points, {interval}",
        list(_rows(comparison, crossed)),
        "gain from a related source beyond that from other sources, points",
        about=about(comparison, crossed),
    )


def about(comparison: Comparison, crossed: CrossedComparison) -> str:
    """What a figure of the crossed design says below its title."""
    effect = crossed.overall
    verdict = claim_verdicts(comparison).kinship if crossed.tests_kinship else "none"
    return f"{effect.n_sources} sources × {effect.n_targets} targets; verdict: {verdict}"


def _rows(comparison: Comparison, crossed: CrossedComparison) -> Iterator[Row]:
    effect = crossed.overall
    yield _row("all sources", effect, bold=True)
    yield Row("clustered errors", effect.estimate, effect.robust)
    by_source = [(source.name, source.effect) for source in crossed.sources if source.effect]
    if by_source:
        yield Row("by source")
        for name, source_effect in by_source:
            yield Row(name, source_effect.estimate)
    if len(crossed.models) > 1:
        labels = model_labels(comparison)
        yield Row("by model")
        for model in crossed.models:
            yield _row(labels.get(model.model, drawable(model.model)), model.effect)
    held = [
        (each.covariates, each.effect) for each in crossed.adjustments if each.effect is not None
    ]
    if held:
        yield Row("checks, at equal ...")
        for covariates, adjusted in held:
            yield _row(held_equal(covariates) if len(covariates) == 1 else "all of these", adjusted)


def _row(label: str, effect: CrossedEffect, bold: bool = False) -> Row:
    return Row(label, effect.estimate, effect.interval_95, effect.interval_90, bold)


def crossed_gains(comparison: Comparison, crossed: CrossedComparison) -> Figure:
    """Heat map of targets by sources: gains without the effects of source and target."""
    frame = crossed_cells_frame(crossed)
    frame = frame[frame["model"] == frame["model"][0]]
    sources = [source.code for source in crossed.sources]
    targets = _by_branch(crossed.targets, crossed.sources)
    gain_TS, related_TS = (
        frame.pivot(index="target", columns="source", values=name).loc[targets, sources].to_numpy()
        for name in (BEYOND, "related")
    )
    labels = [f"{language(code).name} ({code})" for code in targets]
    left = max(text_width(label, 9) for label in labels) + 0.25
    names = [source.name for source in crossed.sources]
    slanted = 0.75 * max(text_width(name, 9) for name in names)
    table = COLUMN * len(sources)
    branches = max(text_width(language(code).branch, 9) for code in targets)
    width = max(NARROWEST, left + table + 0.3 + max(slanted, branches))
    figure, axes = sheet(
        comparison,
        "Gain beyond what source and target gain on average",
        ROW * len(targets),
        Margins(left=left, right=width - left - table, above=slanted + 0.1, below=0.75),
        width,
        about(comparison, crossed),
    )
    _cells(axes, gain_TS.astype(float), related_TS.astype(bool))
    axes.set_xticks(
        np.arange(len(names)) + 0.4, names, rotation=45, ha="left", rotation_mode="anchor",
        fontsize=9,
    )  # fmt: skip
    axes.set_yticks(np.arange(len(targets)) + 0.5, labels, fontsize=9, color=INK)
    axes.tick_params(axis="x", bottom=False, labelbottom=False, top=False, labeltop=True, length=0)
    axes.tick_params(axis="y", length=0)
    _separate_branches(axes, targets, len(names))
    legend(
        figure,
        [
            Patch(color=colormaps[COLOUR_MAP](0.85), label="more, points"),
            Patch(color=colormaps[COLOUR_MAP](0.15), label="less, points"),
            Patch(fill=False, edgecolor=COLOURS[Group.RELATED], lw=1.6, label="relative"),
        ],
    )
    return figure


def _by_branch(targets: Sequence[str], sources: Sequence[CrossedSource]) -> list[str]:
    """The targets, relatives of the sources first, in the order of the sources."""
    relatives = [code for source in sources for code in source.relatives]
    branches = list(dict.fromkeys(language(code).branch for code in relatives))

    def key(code: str) -> tuple[int, str, str]:
        row = language(code)
        known = branches.index(row.branch) if row.branch in branches else len(branches)
        return known, row.branch, row.name

    return sorted(targets, key=key)


def _cells(axes: Axes, gain_TS: FloatArray, related_TS: BoolArray) -> None:
    """The coloured cells with their numbers, those of relatives outlined, the first at the top."""
    n_targets, n_sources = gain_TS.shape
    largest = max(1e-9, float(np.nanmax(np.abs(gain_TS))))
    axes.pcolormesh(
        np.arange(n_sources + 1), np.arange(n_targets + 1), np.ma.masked_invalid(gain_TS),
        cmap=colormaps[COLOUR_MAP], vmin=-largest, vmax=largest, edgecolors="white", linewidth=0.8,
    )  # fmt: skip
    axes.set(xlim=(0, n_sources), ylim=(n_targets, 0))
    axes.spines["bottom"].set_visible(False)
    for target, gain_S in enumerate(gain_TS):
        printed_gains(axes, target + 0.5, gain_S, largest)
        for source in np.flatnonzero(related_TS[target]):
            axes.add_patch(
                Rectangle(
                    (source + 0.04, target + 0.06), 0.92, 0.88, fill=False,
                    edgecolor=COLOURS[Group.RELATED], linewidth=1.6, zorder=3,
                )
            )  # fmt: skip


def _separate_branches(axes: Axes, targets: Sequence[str], n_sources: int) -> None:
    """A line between targets of different branches, and the name of each branch at its right."""
    branches = [language(code).branch for code in targets]
    starts = [
        0,
        *(place for place in range(1, len(branches)) if branches[place] != branches[place - 1]),
    ]
    for start, end in zip(starts, [*starts[1:], len(branches)], strict=True):
        if start:
            axes.axhline(start, color=FAINT, linewidth=0.6)
        axes.text(
            n_sources + 0.15, (start + end) / 2, branches[start], fontsize=9, color=FAINT,
            va="center",
        )  # fmt: skip
