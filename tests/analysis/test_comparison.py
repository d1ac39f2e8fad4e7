"""Conditions, models, seeds and sources of a comparison."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_predictions import RELATED, compare_pair, pair, study

from isogloss.analysis.comparison import change, compare
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.paired import holm
from isogloss.types import Condition, Group, Measure


def test_a_branch_redefines_the_related_languages(runs):
    comparison = compare_pair(runs, source="eng_Latn", branch="Semitic")
    assert comparison.branch == "Semitic"
    assert comparison.contrast.n_related == 5  # both varieties of Arabic are one language
    with pytest.raises(
        ComparisonError, match=r"1 are related to Standard Arabic \(Bantu\) and 15 are"
    ):
        compare_pair(runs, branch="Bantu")


def test_a_margin_that_is_not_positive_raises(runs):
    with pytest.raises(ConfigError, match="`margin` must be positive"):
        compare_pair(runs, margin=0)


def test_the_contrast_over_models_is_that_of_their_mean_gains(six_models):
    assert len(six_models.models) == 6
    in_contrast = [row.code for row in six_models.languages if row.group in ("related", "control")]
    mean_gain = [
        np.mean([model.gain_by_code[code] for model in six_models.models]) for code in in_contrast
    ]
    expected = relatedness_contrast(mean_gain, [code in RELATED for code in in_contrast], 0.03)
    assert six_models.contrast.estimate == pytest.approx(expected.estimate)
    assert six_models.contrast.permutation.p == expected.permutation.p


def test_p_values_of_models_are_adjusted_by_holm(six_models):
    p_values = [model.contrasts[Measure.ACCURACY].permutation.p for model in six_models.models]
    assert six_models.conditions[Condition.TUNED].holm_p == tuple(holm(p_values))


def test_seeds_are_averaged_and_each_has_its_contrast(six_models):
    for model in six_models.models:
        assert model.seeds == ("0", "1", "2")
        assert model.contrasts[Measure.ACCURACY].estimate == pytest.approx(
            np.mean(model.contrast_by_seed)
        )
    one_seed = {run: rows for run, rows in study(seeds=3).items() if run.seed in ("", "1")}
    model = compare(one_seed, source="arb_Arab").models[0]
    assert model.contrast_by_seed == ()
    assert model.contrasts[Measure.ACCURACY].estimate == pytest.approx(
        six_models.models[0].contrast_by_seed[1]
    )


def test_every_other_condition_is_compared_with_the_base(six_models):
    assert list(six_models.conditions) == [
        Condition.TUNED, Condition.BASE_COT, Condition.TUNED_COT,
    ]  # fmt: skip
    accuracy = {
        condition: np.mean(
            [
                rows.groupby("language")["correct"].mean()
                for run, rows in study(seeds=3).items()
                if run.condition == condition and run.source in ("", "arb_Arab")
            ]
        )
        for condition in Condition
    }
    for condition, result in six_models.conditions.items():
        mean = result.overall.mean
        assert mean.before == pytest.approx(accuracy[Condition.BASE])
        assert mean.after == pytest.approx(accuracy[condition])
        assert mean.gain == pytest.approx(accuracy[condition] - accuracy[Condition.BASE])


def test_conditions_other_than_tuned_and_base_are_compared():
    tables = study(1, seeds=1)
    comparison = compare(
        tables, source="arb_Arab", condition=Condition.TUNED, against=Condition.BASE_COT
    )
    tuned, cot = (
        tables[run].groupby("language")["correct"].mean()
        for run in (
            RunKey("model-0", Condition.TUNED, "arb_Arab", "0"),
            RunKey("model-0", Condition.BASE_COT),
        )
    )
    assert comparison.overall.gain_by_code == pytest.approx(dict(tuned - cot))
    assert list(comparison.conditions) == [Condition.TUNED]


@pytest.mark.parametrize(
    ("condition", "against", "words"),
    [
        ("tuned", "base", "fine-tuning on Hebrew"),
        ("base+cot", "base", "chain of thought"),
        ("tuned+cot", "base", "fine-tuning on Hebrew and chain of thought"),
        ("tuned", "base+cot", "fine-tuning on Hebrew and no chain of thought"),
        ("base", "tuned", "no fine-tuning on Hebrew"),
    ],
)
def test_the_change_names_what_distinguishes_two_conditions(condition, against, words):
    assert change(Condition(condition), Condition(against), "heb_Hebr") == words


def test_models_without_both_conditions_are_omissions():
    tables = study(3, seeds=1)
    del tables[RunKey("model-1", Condition.BASE)]
    comparison = compare(tables, source="arb_Arab")
    assert [model.label for model in comparison.models] == ["model-0", "model-2"]
    assert comparison.omissions[0] == Omission(
        OmissionReason.MISSING_CONDITION,
        model="model-1",
        conditions=(Condition.BASE,),
        source="arb_Arab",
    )
    message = "no model has both base and tuned runs with source fra_Latn: model-0 has no tuned"
    with pytest.raises(ComparisonError, match=message):
        compare(tables, source="fra_Latn")


def test_earlier_omissions_come_first(runs):
    earlier = Omission(OmissionReason.UNFINISHED_RUN, run_id="1")
    without_hebrew = runs[1][runs[1]["language"] != "heb_Hebr"]
    comparison = compare_pair((runs[0], without_hebrew), omissions=[earlier])
    assert [omission.reason for omission in comparison.omissions] == [
        OmissionReason.UNFINISHED_RUN, OmissionReason.MISSING_LANGUAGES,
    ]  # fmt: skip


def test_seeds_that_some_models_lack_are_omissions():
    tables = study(2, seeds=2, sources=("arb_Arab",))
    del tables[RunKey("model-1", Condition.TUNED, "arb_Arab", "1")]
    assert compare(tables, source="arb_Arab").omissions == (
        Omission(
            OmissionReason.MISSING_SEEDS,
            model="model-1",
            conditions=(Condition.TUNED,),
            source="arb_Arab",
            seeds=("1",),
        ),
    )


def test_groups_are_relative_to_the_source(runs):
    groups = {row.code: row.group for row in compare_pair(runs, source="heb_Hebr").languages}
    assert (groups["heb_Hebr"], groups["arb_Arab"]) == (Group.SOURCE, Group.RELATED)


def test_statistics_analysis_and_report_load_neither_mlflow_nor_torch() -> None:
    src = Path(__file__).parents[2] / "src"
    names = [
        ".".join(path.relative_to(src).with_suffix("").parts)
        for room in ("stats", "analysis", "report")
        for path in (src / "isogloss" / room).glob("*.py")
        if path.stem != "__init__"
    ]
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        f"assert not {{'mlflow', 'torch', 'transformers'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(src)})


def test_varieties_of_one_language_count_once():
    arabic = ("arb_Arab", "ary_Arab", "arz_Arab", "apc_Arab", "acm_Arab", "ars_Arab")
    gain = dict(zip(arabic, (0.30, 0.28, 0.26, 0.24, 0.22, 0.20), strict=True)) | {
        "azj_Latn": 0.20, "kaz_Cyrl": 0.15, "uzn_Latn": 0.10,
        "deu_Latn": 0.05, "fra_Latn": 0.10, "jpn_Jpan": 0.15,
    }  # fmt: skip
    comparison = compare_pair(pair(gain), source="tur_Latn")
    contrast = comparison.contrast
    assert (contrast.n_related, contrast.n_control) == (3, 4)
    assert contrast.permutation.relabellings == 35
    control = np.mean([np.mean([gain[code] for code in arabic]), 0.05, 0.10, 0.15])
    assert contrast.mean_control == pytest.approx(control)
    assert contrast.estimate == pytest.approx(0.15 - control)
    # The same languages are the units of slopes and of the other analyses.
    assert comparison.baseline_slopes == () or comparison.baseline_slopes[0].test.n_units == 7
    assert comparison.distance.rank.n_units == 7
    assert len(comparison.languages) == 12
    with pytest.raises(ComparisonError, match=r"of the 4 languages that all runs have 3 .* and 1"):
        compare_pair(pair({code: gain[code] for code in list(gain)[:9]}), source="tur_Latn")


def test_sources_of_two_branches_have_no_crossed_section_and_it_is_named_as_missing():
    comparison = compare(study(1, n=24), source="arb_Arab")
    assert comparison.crossed is None
    (omission,) = (
        each for each in comparison.omissions if each.reason == OmissionReason.NO_CROSSED_DESIGN
    )
    assert sorted(omission.sources) == ["arb_Arab", "eng_Latn"]
    assert "at least 3 branches" in omission.problem
    one = compare(study(1, n=24, sources=("arb_Arab",)), source="arb_Arab")
    assert OmissionReason.NO_CROSSED_DESIGN not in {each.reason for each in one.omissions}
