"""Figures show what the numbers say, with names that can be read, however many there are."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from synthetic_predictions import CONTROL, RELATED, gains, pair, study, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.languages import table
from isogloss.report.page import figures
from isogloss.report.style import COLOURS, MARKERS, drawable, model_labels
from isogloss.types import Condition, Interval

NAMES = (
    "نموذج العربية-7B",
    "דגם עברי 270M",
    "通义千问 7B",
    "organisation/a-very-long-model-name-with-many-parts-instruct-lr1e-4",
    "organisation/a-very-long-model-name-with-other-parts-instruct-lr1e-4",
    "a$b$c_d^e",
)


@pytest.fixture(scope="module")
def comparison():
    """One model in two conditions."""
    return compare(
        tables({"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)}, n=60), source="arb_Arab"
    )


@pytest.fixture(scope="module")
def several():
    """Six models, whose names are hard to draw, in four conditions, with a second source."""
    made = study(n=40)
    named = {cell._replace(model=NAMES[int(cell.model[-1])]): rows for cell, rows in made.items()}
    return compare(named, source="arb_Arab")


@pytest.fixture(scope="module")
def everything():
    """All the languages of Belebele."""
    codes = tuple(code for code, row in table().items() if row.belebele)
    made = study(2, seeds=1, sources=("arb_Arab",), languages=codes, n=12)
    return compare(made, source="arb_Arab")


@pytest.fixture(scope="module")
def smallest():
    """Two related and two control languages, few items of one passage, and nothing optional."""
    few = {code: 0.2 + 0.1 * i for i, code in enumerate((*RELATED[:2], *CONTROL[:2]))}
    unknown = ["gold_logprob", "greedy", "forced", "valid"]
    before, after = (
        rows.drop(columns=unknown).assign(choice_logprobs=[[]] * len(rows), passage_id="one")
        for rows in pair(few, n=6, base=0.5)
    )
    return compare(
        {RunKey("m", Condition.BASE): before, RunKey("m", Condition.TUNED, "arb_Arab"): after},
        source="arb_Arab",
    )


def texts(figure):
    """What is written; matplotlib makes ticks beyond the limits of the axes too and hides them."""
    beyond = set()
    for axes in figure.axes:
        for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                for label in (tick.label1, tick.label2):
                    if not low <= label.get_position()[at] <= high:
                        beyond.add(label)
    found = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text())
    return [text for text in found if text not in beyond]


def strings(figure):
    return {found.get_text() for found in texts(figure)}


def dashed(axes):
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def test_the_figures_are_those_that_the_runs_have_something_for(comparison, several, smallest):
    assert list(figures(comparison)) == ["gains", "contrast", "baseline", "parts", "before_after"]
    assert list(figures(several)) == [
        *("gains", "contrast", "baseline", "reasoning", "models", "parts", "before_after"),
    ]
    assert list(figures(smallest)) == ["gains", "contrast", "baseline", "before_after"]


@pytest.fixture(scope="module")
def drawn(request):
    """A function that gives the figures of a comparison, drawn."""

    @cache
    def draw(name):
        found = figures(request.getfixturevalue(name))
        for figure in found.values():
            FigureCanvasAgg(figure).draw()
        return found

    return draw


LARGE = pytest.param("everything", marks=pytest.mark.real)


@pytest.mark.parametrize("name", ["comparison", "several", LARGE, "smallest"])
def test_no_text_is_cut_off(name, drawn):
    for figure in drawn(name).values():
        renderer = figure.canvas.get_renderer()
        whole = figure.bbox
        for found in texts(figure):
            box = found.get_window_extent(renderer)
            assert whole.x0 <= box.x0, found
            assert whole.y0 <= box.y0, found
            assert box.x1 <= whole.x1, found
            assert box.y1 <= whole.y1, found


@pytest.mark.real
def test_names_of_122_languages_stand_clear_of_one_another(drawn):
    for name in ("gains", "before_after", "models", "parts"):
        figure = drawn("everything")[name]
        labels = figure.axes[0].get_yticklabels()
        assert len(labels) == 122 + 4
        boxes = [label.get_window_extent(figure.canvas.get_renderer()) for label in labels]
        boxes.sort(key=lambda box: box.y0)
        assert all(upper.y0 >= lower.y1 - 1 for lower, upper in pairwise(boxes))


def test_figures_name_every_language_and_mark_the_chance_level(comparison):
    drawn = figures(comparison)
    for name in ("before_after", "gains", "parts"):
        labels = {label.get_text() for label in drawn[name].axes[0].get_yticklabels()}
        assert {f"{row.name} ({row.code})" for row in comparison.languages} <= labels
        assert {"source", "control", "related: Semitic"} <= labels
    assert [line.get_xdata()[0] for line in dashed(drawn["before_after"].axes[0])] == [25]


def test_groups_differ_in_marker_as_well_as_in_colour():
    assert len(set(MARKERS.values())) == len(set(COLOURS.values())) == 4


def test_figures_use_no_global_state(comparison):
    from matplotlib import _pylab_helpers

    figures(comparison)
    assert not _pylab_helpers.Gcf.figs


def test_the_forest_shows_each_model_beside_the_mean(several):
    axes = figures(several)["gains"].axes[0]
    small = [line for line in axes.lines if line.get_markersize() == 3]
    shown = sorted(x for line in small for x in line.get_xdata())
    assert shown == pytest.approx(
        sorted(100 * row.gain for model in several.models for row in model.languages)
    )


def test_the_lines_on_the_baseline_have_the_slopes_of_the_tests(several):
    axes = figures(several)["baseline"].axes[0]
    test = several.baseline_slopes[-1].test
    assert several.baseline_slopes[-1].units == "models"
    (naive,) = dashed(axes)
    thick = [line for line in axes.lines if line.get_linewidth() == 1.8 and line is not naive]
    for line, slope in ((naive, test.naive), (thick[0], test.slope)):
        (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(slope)
    light = [line for line in axes.lines if line.get_linewidth() == 0.8 and line.get_ls() == "-"]
    assert len(light) == 6


@pytest.mark.parametrize("slope", [math.nan, -0.5])
def test_a_slope_that_cannot_be_estimated_is_said_and_not_drawn(several, slope):
    *others, relation = several.baseline_slopes
    test = relation.test._replace(slope=slope, interval=Interval(-math.inf, math.inf))
    lost = replace(several, baseline_slopes=(*others, replace(relation, test=test)))
    figure = figures(lost)["baseline"]
    assert any("no line, lost in noise" in text for text in strings(figure))
    assert any("cannot be told from noise" in text for text in strings(figure))
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.8]
    assert [line.get_linestyle() for line in thick] == ["--"]


def test_tuning_is_drawn_against_chain_of_thought_with_the_diagonal(several):
    axes = figures(several)["reasoning"].axes[0]
    (diagonal,) = (line for line in axes.lines if line.get_linestyle() == ":")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == list(axes.get_xlim())
    cot = several.conditions["base+cot"].models[0].languages
    points = {
        (round(x, 6), round(y, 6))
        for line in axes.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    tuned = {row.code: row.gain for row in several.models[0].languages}
    assert {(round(100 * row.gain, 6), round(100 * tuned[row.code], 6)) for row in cot} <= points


def test_the_heat_map_prints_every_gain_and_centres_its_colours(several):
    axes = figures(several)["models"].axes[0]
    assert len(axes.texts) == 6 * (len(several.languages) + 4)
    meshes = axes.collections
    assert sum(mesh.get_array().size for mesh in meshes) == 6 * len(several.languages)
    assert {mesh.norm.vmin + mesh.norm.vmax for mesh in meshes} == {0.0}
    means = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    shown = several.models[0].group_means["related"].gain
    assert any(
        float(text.replace("−", "-")) == pytest.approx(100 * shown, abs=0.06) for text in means
    )


def test_contrasts_stand_against_the_margin_and_unbounded_ones_are_arrows(several, smallest):
    figure = figures(several)["contrast"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["mean of 6 models", "Welch's t"]
    assert {"each model", *model_labels(several).values(), "base+cot", "against English"} <= set(
        labels
    )
    axes = figures(smallest)["contrast"].axes[0]
    assert {"<", ">"} <= {line.get_marker() for line in axes.lines}
    assert np.diff(axes.patches[0].get_extents().intervalx) > 0
    written = strings(axes.figure)
    assert any("no 95% interval" in text for text in written)
    assert any("(no interval)" in text for text in written)
    assert not any("∞" in text for text in written)


def test_names_that_cannot_be_drawn_or_told_apart_get_a_number(several):
    labels = model_labels(several)
    assert labels[NAMES[0]] == NAMES[0]  # matplotlib joins and orders these letters
    assert labels[NAMES[1]] == NAMES[1]
    assert [labels[name] for name in NAMES[2:5]] == ["model 3", "model 4", "model 5"]
    assert labels[NAMES[5]] == r"a\$b\$c_d^e"


def test_a_drawable_name_is_short_and_on_one_line():
    assert drawable("a\nb  c") == "a b c"
    assert drawable("x" * 10 + "y" * 30, longest=11) == "xxxxxx…yyyy"
    assert drawable("通义", "model 1") == "model 1"
    assert drawable("", "model 1") == "model 1"
