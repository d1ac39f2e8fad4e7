"""The crossed design of aligned scores: sources, targets, models, covariates."""

from itertools import product

import numpy as np
import pytest
from synthetic_predictions import CROSSED_SOURCES, CROSSED_TARGETS, crossed_tables

from isogloss.analysis.aligned_study import AlignedStudy, ComparisonSpec
from isogloss.analysis.alignment import align
from isogloss.analysis.crossed import DyadicCovariate, _averaged, crossed_comparison
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.languages import distance, group, language, source_branch
from isogloss.stats.crossed import crossed_effect
from isogloss.types import Condition, Verdict


def aligned(tables, source="arb_Arab", **options):
    scores, _ = align(tables)
    return AlignedStudy(
        scores,
        models=tuple(dict.fromkeys(run.model for run in scores.runs)),
        groups=tuple(group(code, source) for code in scores.languages),
        spec=ComparisonSpec(source, **options),
    )


def crossed(tables, **options):
    comparison, omissions = crossed_comparison(aligned(tables, **options))
    assert comparison is not None, omissions
    return comparison


def mean_accuracy(tables, condition, code, source=""):
    return np.mean(
        [
            rows.loc[rows["language"] == code, "correct"].mean()
            for run, rows in tables.items()
            if (run.condition, run.source) == (condition, source)
        ]
    )


def test_cells_hold_gains_averaged_over_seeds_and_models():
    tables = crossed_tables(models=2, seeds=2)
    comparison = crossed(tables)
    assert [(cell.source, cell.target) for cell in comparison.cells] == list(
        product(CROSSED_SOURCES, CROSSED_TARGETS)
    )
    for cell in comparison.cells:
        after = mean_accuracy(tables, Condition.TUNED, cell.target, cell.source)
        before = mean_accuracy(tables, Condition.BASE, cell.target)
        assert cell.gain == pytest.approx(after - before)
        assert cell.related == (source_branch(cell.source) == language(cell.target).branch)


def test_the_overall_effect_is_that_of_the_cells():
    comparison = crossed(crossed_tables(models=2), margin=0.05)
    gain, kin = (
        np.array([value(cell) for cell in comparison.cells], dtype=float).reshape(4, 12)
        for value in (lambda cell: cell.gain, lambda cell: cell.related)
    )
    expected = crossed_effect(gain, kin, [source_branch(code) for code in CROSSED_SOURCES], 0.05)
    assert comparison.overall == expected
    assert comparison.verdict == Verdict.RELATED_GAIN_MORE
    assert comparison.overall.p == pytest.approx(1 / 24)
    assert [source.code for source in comparison.sources] == list(CROSSED_SOURCES)
    assert comparison.sources[0].relatives == ("amh_Ethi", "heb_Hebr", "mlt_Latn")
    assert [source.effect for source in comparison.sources] == list(expected.by_source)


def test_sources_and_their_varieties_are_left_out_for_every_source():
    targets = (*CROSSED_TARGETS, "ary_Arab", "hin_Deva", "tur_Latn")
    comparison = crossed(crossed_tables(targets=tuple(sorted(targets))))
    assert comparison.left_out == ("ary_Arab", "hin_Deva", "tur_Latn")
    assert comparison.targets == CROSSED_TARGETS
    assert comparison.overall.n_cells == 4 * 12


def test_varieties_of_one_target_count_once():
    tables = crossed_tables(targets=tuple(sorted((*CROSSED_TARGETS, "npi_Latn"))))
    comparison = crossed(tables)
    assert comparison.targets == CROSSED_TARGETS
    (cell,) = (
        cell for cell in comparison.cells if (cell.source, cell.target) == ("hin_Deva", "npi_Deva")
    )
    expected = np.mean(
        [
            mean_accuracy(tables, Condition.TUNED, code, "hin_Deva")
            - mean_accuracy(tables, Condition.BASE, code)
            for code in ("npi_Deva", "npi_Latn")
        ]
    )
    assert cell.gain == pytest.approx(expected)


def test_each_model_has_its_own_effect_and_a_holm_adjusted_p():
    tables = crossed_tables(models=3, seed=4)
    comparison = crossed(tables)
    assert [row.model for row in comparison.models] == ["model-0", "model-1", "model-2"]
    one = {run: rows for run, rows in tables.items() if run.model == "model-1"}
    assert comparison.models[1].effect == crossed(one).overall
    smallest = min(comparison.models, key=lambda row: row.effect.p)
    assert smallest.holm_p == pytest.approx(min(1, 3 * smallest.effect.p))


def test_a_model_without_a_source_is_left_out_of_the_average_and_named():
    tables = crossed_tables(models=2)
    partial = {
        run: rows
        for run, rows in tables.items()
        if (run.model, run.source) != ("model-1", "swh_Latn")
    }
    comparison = crossed(partial)
    assert comparison.averaged_models == ("model-0",)
    assert comparison.omissions == (
        Omission(OmissionReason.MISSING_SOURCES, model="model-1", sources=("swh_Latn",)),
    )
    assert comparison.models[1].sources == ("arb_Arab", "hin_Deva", "tur_Latn")


def test_a_source_pooled_from_several_branches_is_no_branch_of_the_design():
    sources = ("arb_Arab", "arb_Arab+hin_Deva", "hin_Deva", "tur_Latn")
    comparison = crossed(crossed_tables(sources=sources))
    assert [source.code for source in comparison.sources] == ["arb_Arab", "hin_Deva", "tur_Latn"]
    assert comparison.overall.matchings == 6
    assert comparison.verdict is None
    (omission,) = comparison.omissions
    assert omission.reason == OmissionReason.SOURCES_NOT_CROSSED
    assert omission.sources == ("arb_Arab+hin_Deva",)


def test_a_source_without_one_of_the_conditions_is_left_out_and_named():
    tables = crossed_tables(sources=(*CROSSED_SOURCES, "jpn_Jpan"))
    comparison = crossed(
        {
            run._replace(condition=Condition.TUNED_COT) if run.source == "jpn_Jpan" else run: rows
            for run, rows in tables.items()
        }
    )
    assert [source.code for source in comparison.sources] == list(CROSSED_SOURCES)
    assert comparison.omissions == (
        Omission(OmissionReason.LOST_SOURCES, sources=("jpn_Jpan",), problem="no tuned run."),
    )


def test_a_source_pooled_within_one_branch_counts_as_that_branch():
    sources = ("arb_Arab+ary_Arab", *CROSSED_SOURCES[1:])
    comparison = crossed(crossed_tables(sources=sources), source="arb_Arab+ary_Arab")
    assert comparison.sources[0].branch == "Semitic"
    assert (comparison.overall.n_branches, comparison.omissions) == (4, ())


def test_a_model_with_other_sources_leaves_the_design_of_the_others_as_it_is():
    targets = tuple(sorted((*CROSSED_TARGETS, "dan_Latn", "nld_Latn")))
    tables = crossed_tables(models=2, sources=(*CROSSED_SOURCES, "deu_Latn"), targets=targets)
    of_model = {"model-0": CROSSED_SOURCES, "model-1": ("arb_Arab", "deu_Latn")}
    apart = {
        run: rows
        for run, rows in tables.items()
        if not run.source or run.source in of_model[run.model]
    }
    comparison = crossed(apart)
    assert comparison.averaged_models == ("model-0",)
    alone = {run: rows for run, rows in apart.items() if run.model == "model-0"}
    assert comparison.overall == crossed(alone).overall
    assert [row.model for row in comparison.models] == ["model-0", "model-1"]
    assert [(each.reason, each.model, each.sources) for each in comparison.omissions] == [
        (OmissionReason.MISSING_SOURCES, "model-1", CROSSED_SOURCES[1:]),
        (OmissionReason.SOURCES_NOT_CROSSED, "", ("deu_Latn",)),
    ]


@pytest.mark.parametrize(
    ("by_model", "expected"),
    [
        ({"a": ("arb_Arab", "heb_Hebr", "tur_Latn"), "b": ("arb_Arab", "amh_Ethi", "tur_Latn")},
         (("a", "b"), ("arb_Arab", "tur_Latn"))),
        ({"a": ("arb_Arab", "tur_Latn"), "b": ("arb_Arab", "hin_Deva", "swh_Latn")},
         (("b",), ("arb_Arab", "hin_Deva", "swh_Latn"))),
        ({"a": ("arb_Arab", "heb_Hebr"), "b": ("arb_Arab", "amh_Ethi")},
         (("a", "b"), ("arb_Arab",))),
    ],
)  # fmt: skip
def test_models_that_share_most_branches_of_sources_are_averaged(by_model, expected):
    assert _averaged(by_model) == expected


def test_three_branches_with_relatives_give_no_verdict():
    comparison = crossed(crossed_tables(sources=CROSSED_SOURCES[:3]))
    assert comparison.verdict is None
    assert comparison.overall.lowest_p == pytest.approx(1 / 6)


def test_one_source_is_no_crossed_design_and_one_branch_says_why():
    tables = crossed_tables(sources=("arb_Arab",))
    assert crossed_comparison(aligned(tables)) == (None, ())
    tables = crossed_tables(sources=("arb_Arab", "heb_Hebr"))
    comparison, (omission,) = crossed_comparison(aligned(tables))
    assert comparison is None
    assert omission.reason == OmissionReason.NO_CROSSED_DESIGN
    assert "at least 2 branches, but got 1" in omission.problem


def test_covariates_are_held_equal_one_by_one_and_together():
    comparison = crossed(crossed_tables())
    script, geography = DyadicCovariate.SCRIPT, DyadicCovariate.GEOGRAPHY
    assert [row.covariates for row in comparison.adjustments] == [
        (script,), (geography,), (script, geography),
    ]  # fmt: skip
    cells = comparison.cells
    gain = np.array([cell.gain for cell in cells]).reshape(4, 12)
    kin = np.array([float(cell.related) for cell in cells]).reshape(4, 12)
    same = np.array(
        [language(cell.source).script == language(cell.target).script for cell in cells]
    )
    expected = crossed_effect(
        gain,
        kin,
        [source_branch(code) for code in CROSSED_SOURCES],
        0.03,
        covariates={script.value: same.reshape(4, 12).astype(float)},
    )
    assert comparison.adjustments[0].effect == expected


def test_shared_vocabulary_is_a_covariate_where_every_cell_has_it():
    study = aligned(crossed_tables())
    rng = np.random.default_rng(0)
    overlaps = {
        (source, code): rng.uniform() for source in CROSSED_SOURCES for code in CROSSED_TARGETS
    }
    comparison, _ = crossed_comparison(study, shared_vocabulary=overlaps)
    assert comparison.adjustments[2].covariates == (DyadicCovariate.VOCABULARY,)
    del overlaps["arb_Arab", "heb_Hebr"]
    comparison, _ = crossed_comparison(study, shared_vocabulary=overlaps)
    assert len(comparison.adjustments) == 3


def test_graded_kinship_is_the_effect_of_genealogical_similarity():
    comparison = crossed(crossed_tables(0.2))
    cells = comparison.cells
    expected = crossed_effect(
        np.array([cell.gain for cell in cells]).reshape(4, 12),
        np.array([1 - distance(cell.source, cell.target) for cell in cells]).reshape(4, 12),
        [source_branch(code) for code in CROSSED_SOURCES],
    )
    assert comparison.graded == expected
    assert expected.estimate > 0.1
