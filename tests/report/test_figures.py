"""Figures show the numbers of a comparison, with readable names for any number of languages."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from synthetic_predictions import CONTROL, RELATED, gains, pair, study, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.formatting import interval_points, points
from isogloss.languages import table
from isogloss.report import language_figures, scatter_figures
from isogloss.report.model_order import by_baseline
from isogloss.report.page import figures
from isogloss.report.style import COLOURS, MARKERS, drawable, model_labels
from isogloss.stats.adjusted import AdjustedContrast
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
    named = {
        run._replace(model=NAMES[int(run.model[-1])]): rows for run, rows in study(n=40).items()
    }
    return compare(named, source="arb_Arab")


@pytest.fixture(scope="module")
def everything():
    """All the languages of Belebele."""
    codes = tuple(code for code, row in table().items() if row.belebele)
    runs = study(2, seeds=1, sources=("arb_Arab",), languages=codes, n=12)
    return compare(runs, source="arb_Arab")


@pytest.fixture(scope="module")
def smallest():
    """Two related and two control languages, few items of one passage, no optional columns."""
    few = {code: 0.2 + 0.1 * i for i, code in enumerate((*RELATED[:2], *CONTROL[:2]))}
    optional = ["gold_logprob", "greedy", "forced", "valid"]
    before, after = (
        rows.drop(columns=optional).assign(choice_logprobs=[[]] * len(rows), passage_id="one")
        for rows in pair(few, n=6, base=0.5)
    )
    return compare(
        {RunKey("m", Condition.BASE): before, RunKey("m", Condition.TUNED, "arb_Arab"): after},
        source="arb_Arab",
    )


def texts(figure):
    """The visible texts; matplotlib also makes tick labels beyond the limits of the axes."""
    beyond = set()
    for axes in figure.axes:
        for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                for label in (tick.label1, tick.label2):
                    if not low <= label.get_position()[at] <= high:
                        beyond.add(label)
    visible = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text())
    return [text for text in visible if text not in beyond]


def strings(figure):
    return {text.get_text() for text in texts(figure)}


def dashed(axes):
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def test_figures_without_data_are_left_out(comparison, several, smallest):
    assert list(figures(comparison)) == ["gains", "contrast", "baseline", "parts", "before_after"]
    assert list(figures(several)) == [
        *("gains", "contrast", "baseline", "reasoning", "models", "parts", "before_after"),
    ]
    assert list(figures(smallest)) == ["gains", "contrast", "baseline", "before_after"]


@pytest.fixture(scope="module")
def drawn(request):
    """A function that returns the drawn figures of a comparison fixture."""

    @cache
    def draw(name):
        by_name = figures(request.getfixturevalue(name))
        for figure in by_name.values():
            FigureCanvasAgg(figure).draw()
        return by_name

    return draw


@pytest.fixture(scope="module")
def unchanged():
    """No gain in any language, before and after at the same accuracy."""
    return compare(tables(gains(0.0, 0.0, spread=0.0), n=20), source="arb_Arab")


LARGE = pytest.param("everything", marks=pytest.mark.real)


@pytest.mark.parametrize("name", ["comparison", "several", LARGE, "smallest", "unchanged"])
def test_no_text_is_cut_off(name, drawn):
    for figure in drawn(name).values():
        renderer = figure.canvas.get_renderer()
        whole = figure.bbox
        for text in texts(figure):
            box = text.get_window_extent(renderer)
            assert whole.x0 <= box.x0, text
            assert whole.y0 <= box.y0, text
            assert box.x1 <= whole.x1, text
            assert box.y1 <= whole.y1, text


@pytest.mark.real
def test_names_of_122_languages_do_not_overlap(drawn):
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


def test_equal_values_do_not_shrink_the_axes(unchanged):
    drawn = figures(unchanged)
    for axis in (
        drawn["gains"].axes[0].xaxis, drawn["parts"].axes[0].xaxis,
        drawn["baseline"].axes[0].xaxis, drawn["baseline"].axes[0].yaxis,
    ):  # fmt: skip
        low, high = axis.get_view_interval()
        assert high - low >= 4


def test_groups_differ_in_marker_as_well_as_in_colour():
    assert len(set(MARKERS.values())) == len(set(COLOURS.values())) == 4


def test_figures_use_no_global_state(comparison):
    from matplotlib import _pylab_helpers

    figures(comparison)
    assert not _pylab_helpers.Gcf.figs


def test_the_forest_shows_single_models_beside_the_mean(several):
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
    chance, naive = dashed(axes)
    assert list(chance.get_xdata()) == [25, 25]
    thick = [line for line in axes.lines if line.get_linewidth() == 1.8 and line is not naive]
    for line, slope in ((naive, test.naive), (thick[0], test.slope)):
        (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(slope)
    light = [line for line in axes.lines if line.get_linewidth() == 0.8 and line.get_ls() == "-"]
    assert len(light) == 6


@pytest.mark.parametrize("slope", [math.nan, -0.5])
def test_a_slope_that_cannot_be_estimated_is_named_and_not_drawn(several, slope):
    *others, relation = several.baseline_slopes
    test = relation.test._replace(slope=slope, interval=Interval(-math.inf, math.inf))
    lost = replace(several, baseline_slopes=(*others, replace(relation, test=test)))
    figure = figures(lost)["baseline"]
    assert any("no slope beyond noise" in text for text in strings(figure))
    assert any("no slope beyond sampling noise" in text for text in strings(figure))
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.8]
    assert [line.get_linestyle() for line in thick] == ["--"]


@pytest.mark.parametrize(
    ("kind", "draw"),
    [
        ("comparison", scatter_figures.baseline),
        ("several", scatter_figures.baseline),
        ("everything", scatter_figures.baseline),
        ("several", scatter_figures.reasoning),
    ],
)
def test_labels_of_points_overlap_neither_each_other_nor_the_points(request, kind, draw):
    (axes,) = draw(request.getfixturevalue(kind)).axes
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    for text in axes.texts:
        text.update_positions(renderer)
    # Of an annotation `get_window_extent` has the line too.
    boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]
    assert len(boxes) > 10
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
    points = [
        axes.transData.transform(point)
        for line in axes.lines
        if line.get_marker() not in ("None", "")
        for point in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_every_language_of_one_model_and_every_model_of_several_is_labelled(comparison, several):
    (axes,) = scatter_figures.baseline(comparison).axes
    assert {text.get_text() for text in axes.texts} == {row.name for row in comparison.languages}
    (axes,) = scatter_figures.baseline(several).axes
    assert {str(number) for number in range(1, 7)} <= {text.get_text() for text in axes.texts}


def test_models_are_in_the_order_of_their_baselines(several):
    ordered = by_baseline(several)
    before = [model.mean.before for model in ordered.models]
    assert before == sorted(before)
    assert before != [model.mean.before for model in reversed(several.models)]
    backwards = replace(
        several,
        conditions={
            name: replace(result, models=result.models[::-1], holm_p=result.holm_p[::-1])
            for name, result in several.conditions.items()
        },
    )
    assert by_baseline(backwards).conditions == ordered.conditions


@pytest.mark.parametrize("kind", ["comparison", "several"])
def test_chance_is_a_line_in_every_figure_of_accuracy(request, kind):
    for draw in (scatter_figures.baseline, language_figures.before_after):
        (axes,) = draw(request.getfixturevalue(kind)).axes
        assert [25, 25] in [list(line.get_xdata()) for line in dashed(axes)]
        assert axes.get_xlim()[0] < 25 < axes.get_xlim()[1]


def test_tuning_is_drawn_against_chain_of_thought_with_the_diagonal(several):
    axes = figures(several)["reasoning"].axes[0]
    (diagonal,) = (line for line in axes.lines if line.get_linestyle() == ":")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == list(axes.get_xlim())
    cot = several.conditions["base+cot"].models[0].languages
    drawn = {
        (round(x, 6), round(y, 6))
        for line in axes.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    tuned = {row.code: row.gain for row in several.models[0].languages}
    assert {(round(100 * row.gain, 6), round(100 * tuned[row.code], 6)) for row in cot} <= drawn


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


def test_the_forest_of_contrasts_has_a_row_per_analysis(several):
    figure = figures(several)["contrast"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["mean of 6 models", "Welch's t", "by model"]
    assert {*model_labels(several).values(), "base+cot", "tuned+cot", "against English"} <= set(
        labels
    )
    printed = {text.get_text() for text in figure.axes[0].texts}
    (double,) = several.double_differences
    interval = interval_points(double.contrast.permutation.interval_95)
    assert f"{points(double.contrast.estimate)} {interval}" in printed


def test_the_forest_of_contrasts_shades_the_margin(comparison):
    (band,) = figures(comparison)["contrast"].axes[0].patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-3, 6))


def arrows(axes):
    return {line.get_marker() for line in axes.lines} & {"<", ">"}


def test_an_interval_beyond_the_axis_has_an_arrow(comparison):
    first, *others = comparison.adjustments
    for interval, markers in (
        (Interval(-5.0, 0.01), {"<"}),
        (Interval(-0.01, math.inf), {">"}),
        (Interval(-0.01, 0.01), set()),
    ):
        made = AdjustedContrast(0.0, 0.5, interval, {}, 99)
        changed = replace(comparison, adjustments=(replace(first, contrast=made), *others))
        assert arrows(figures(changed)["contrast"].axes[0]) == markers


def test_a_contrast_without_an_interval_is_a_point(smallest):
    axes = figures(smallest)["contrast"].axes[0]
    assert arrows(axes) == set()
    assert [line for line in axes.lines if line.get_linewidth() == 4.5] == []
    written = strings(axes.figure)
    assert any("no 95% interval" in text for text in written)
    assert any("(no interval)" in text for text in written)
    assert not any("∞" in text for text in written)


def test_names_that_cannot_be_drawn_or_are_not_unique_get_a_number(several):
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
