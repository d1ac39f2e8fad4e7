"""Runs are grouped by what they measured, and their predictions are read."""

import pandas as pd
import pytest
from logged_runs import log_run, log_runs, log_study
from synthetic_predictions import gains, tables

from isogloss.analysis.score_matrix import RunKey
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.report.omissions import omission_sentence
from isogloss.stages.collect_runs import collect_runs, read_tables, source_language
from isogloss.types import Condition

Tables = dict[RunKey, pd.DataFrame]
BASE = RunKey("m", Condition.BASE)
TUNED = RunKey("m", Condition.TUNED, "arb_Arab", "0")


@pytest.fixture
def two() -> Tables:
    """One model in two conditions."""
    return tables(gains(0.1, 0.05), n=20)


def test_runs_are_grouped_and_their_predictions_read_as_logged(two: Tables) -> None:
    log_runs(two)
    collected = collect_runs(CompareConfig())
    assert list(collected.by_key) == [BASE, TUNED]
    assert source_language(collected, CompareConfig()) == "arb_Arab"
    predictions = read_tables(collected)
    for key, table in two.items():
        pd.testing.assert_series_equal(predictions[key]["correct"], table["correct"])
    assert "prediction" not in predictions[BASE]  # a column that no comparison uses


def test_an_error_says_where_no_finished_run_was_found(two: Tables) -> None:
    with pytest.raises(ComparisonError, match="the experiment has no finished evaluate run"):
        collect_runs(CompareConfig())
    log_run(BASE, two[BASE], status="RUNNING")
    with pytest.raises(ComparisonError, match=r"study 'mine' has no finished evaluate run; s"):
        collect_runs(CompareConfig(study="mine"))
    with pytest.raises(ComparisonError, match=r"no finished evaluate run \(1 unfinished\)"):
        collect_runs(CompareConfig())


def test_runs_that_cannot_be_compared_are_rejected(two: Tables) -> None:
    log_run(BASE, two[BASE])
    log_run(TUNED, two[TUNED], attention="eager")
    with pytest.raises(ComparisonError, match="the runs of m cannot be compared: attention is "):
        collect_runs(CompareConfig())


def test_unfinished_runs_are_left_out_and_named(two: Tables) -> None:
    log_runs(two)
    running = log_run(TUNED._replace(seed="1"), two[BASE], status="RUNNING")
    collected = collect_runs(CompareConfig())
    assert list(collected.by_key) == [BASE, TUNED]
    (omission,) = collected.omissions
    assert omission_sentence(omission) == (
        f"Run {running} (m, tuned on arb_Arab, seed 1) is left out: it is running."
    )


def test_of_several_runs_with_one_key_the_newest_with_a_language_counts(two: Tables) -> None:
    table = two[BASE]
    log_run(BASE, table.assign(correct=False))
    log_run(BASE, table[table["language"] != "heb_Hebr"])
    log_run(TUNED, two[TUNED])
    merged = read_tables(collect_runs(CompareConfig()))[BASE]
    accuracy = merged.groupby("language")["correct"].mean()
    assert accuracy["heb_Hebr"] == 0
    assert accuracy["amh_Ethi"] == table.groupby("language")["correct"].mean()["amh_Ethi"]
    assert len(merged) == len(table)


def test_adapters_without_a_seed_are_identified_by_their_digest(two: Tables) -> None:
    log_run(BASE, two[BASE])
    for digest in ("a" * 64, "b" * 64):
        log_run(TUNED._replace(seed=""), two[TUNED], adapter=digest)
    seeds = [key.seed for key in collect_runs(CompareConfig()).by_key]
    assert seeds == ["", "aaaaaaaa", "bbbbbbbb"]


def test_of_several_sources_one_has_to_be_chosen(two: Tables) -> None:
    log_run(BASE, two[BASE])
    log_run(TUNED, two[TUNED])
    log_run(TUNED._replace(source="eng_Latn"), two[TUNED])
    collected = collect_runs(CompareConfig())
    with pytest.raises(ComparisonError, match=r"2 sources \(arb_Arab, eng_Latn\); choose one"):
        source_language(collected, CompareConfig())
    assert source_language(collected, CompareConfig(source="arb_Arab")) == "arb_Arab"


def test_of_the_sources_of_a_study_the_first_has_the_contrast_and_sources_restrict_the_runs(
    two: Tables,
) -> None:
    ids = {source: log_run(TUNED._replace(source=source), two[TUNED], study="s")
           for source in ("arb_Arab", "eng_Latn", "tur_Latn")}  # fmt: skip
    ids[""] = log_run(BASE, two[BASE], study="s")
    log_study(ids.values(), source="tur_Latn")
    collected = collect_runs(CompareConfig(study="s"))
    assert source_language(collected, CompareConfig()) == "tur_Latn"
    assert {key.source for key in collected.by_key} == {"", "arb_Arab", "eng_Latn", "tur_Latn"}
    assert source_language(collected, CompareConfig(source="eng_Latn")) == "eng_Latn"

    config = CompareConfig(study="s", sources="eng_Latn,arb_Arab")
    assert {key.source for key in collect_runs(config).by_key} == {"", "arb_Arab", "eng_Latn"}
    assert source_language(collect_runs(config), config) == "eng_Latn"
    chosen = CompareConfig(runs=",".join(ids.values()), sources="eng_Latn")
    assert {key.source for key in collect_runs(chosen).by_key} == {"", "eng_Latn"}


def test_sources_without_runs_and_a_source_outside_of_them_are_refused(two: Tables) -> None:
    log_runs(two)
    with pytest.raises(ComparisonError, match=r"source 'hin_Deva' in `sources`; the runs have arb"):
        collect_runs(CompareConfig(sources="arb_Arab,hin_Deva"))
    config = CompareConfig(source="eng_Latn", sources="arb_Arab")
    with pytest.raises(ConfigError, match=r"'eng_Latn' is not one of `sources` \(arb_Arab\)"):
        source_language(collect_runs(config), config)
