"""The runs that a configuration selects: by study, experiment, tags or ids."""

import mlflow
import pandas as pd
import pytest
from logged_runs import log_run, log_runs, log_study
from synthetic_predictions import gains, tables

from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.stages.search_runs import parse_tags, search_runs
from isogloss.types import Condition

Tables = dict[RunKey, pd.DataFrame]
BASE = RunKey("m", Condition.BASE)
TUNED = RunKey("m", Condition.TUNED, "arb_Arab", "0")


@pytest.fixture
def two() -> Tables:
    """One model in two conditions."""
    return tables(gains(0.1, 0.05), n=20)


def found_ids(**config: str) -> set[str]:
    return {run.info.run_id for run in search_runs(CompareConfig(**config)).runs}


def test_runs_are_selected_by_study_experiment_tags_and_ids(two: Tables) -> None:
    ids = log_runs(two, study="one")
    other = log_run(BASE, two[BASE], study="two", team="x", revision="r2")
    assert found_ids(study="one") == set(ids.values())
    assert found_ids(tags="isogloss.team=x, isogloss.study=two") == {other}
    assert found_ids(runs=",".join(ids.values())) == set(ids.values())
    mlflow.set_experiment("elsewhere")
    assert found_ids() == set()
    assert found_ids(experiment="Default,elsewhere", study="one") == set(ids.values())
    with pytest.raises(ComparisonError, match="there is no experiment 'nowhere'"):
        search_runs(CompareConfig(experiment="nowhere"))


def test_tags_are_parsed_with_spaces_around_them() -> None:
    assert parse_tags([" a = 1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    assert parse_tags(None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "tags: expected NAME=VALUE, separated by commas, but got 'a'."),
        ("=1", "but got '=1'."),
        ("a= ", "but got 'a='."),
        ("a=1,a=2", "tags: 'a' is given twice, as '1' and '2'."),
    ],
)
def test_malformed_tags_are_rejected(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_tags(text.split(","))
    assert str(error.value).endswith(message)


def test_a_run_that_is_not_a_finished_evaluate_run_is_rejected(two: Tables) -> None:
    ids = log_runs(two)
    with mlflow.start_run() as run:
        mlflow.set_tag("isogloss.kind", "compare")
    with pytest.raises(ComparisonError, match="is not an evaluate run but a compare run"):
        search_runs(CompareConfig(runs=run.info.run_id))
    with pytest.raises(ComparisonError, match="'nothing' is not the id of a run"):
        search_runs(CompareConfig(runs="nothing"))
    mlflow.MlflowClient().set_terminated(ids[BASE], "FAILED")
    with pytest.raises(ComparisonError, match="is not finished: it is failed"):
        search_runs(CompareConfig(runs=ids[BASE]))


def test_the_newest_finished_study_run_decides_which_runs_belong_to_the_study(
    two: Tables,
) -> None:
    table = two[BASE]
    old = log_run(BASE, table[table["item_id"] < "item-005"], study="s")
    ids = log_runs(two, study="s")
    log_study([old], seeds="0")
    log_study(ids.values(), seeds="0")
    log_study([old], "FAILED", seeds="0")
    assert found_ids(study="s") == set(ids.values())


def test_a_source_of_a_study_of_which_no_adapter_is_evaluated_is_named(two: Tables) -> None:
    ids = log_runs(two, study="s")
    log_study(ids.values(), seeds="0", sources="arb_Arab,tur_Latn")
    (omission,) = search_runs(CompareConfig(study="s")).omissions
    assert omission == Omission(
        OmissionReason.LOST_SOURCES,
        sources=("tur_Latn",),
        problem="no adapter is evaluated in the study; the cells failed, or the runs are deleted.",
    )
    assert search_runs(CompareConfig(study="s", sources="arb_Arab")).omissions == []
    more = log_run(TUNED._replace(source="tur_Latn"), two[TUNED])
    log_study([ids[BASE], more], seeds="1", sources="tur_Latn")
    assert search_runs(CompareConfig(study="s")).omissions == []


def test_studies_with_other_seeds_add_their_runs(two: Tables) -> None:
    ids = log_runs(two, study="s")
    log_study(ids.values(), seeds="0")
    more = log_run(TUNED._replace(seed="1"), two[TUNED], study="s")
    assert found_ids(study="s") == set(ids.values())
    log_study([ids[BASE], more], seeds="1")
    assert found_ids(study="s") == {*ids.values(), more}
