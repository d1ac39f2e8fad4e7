"""Names of studies, tasks and registered models with any characters are found again."""

import json
from pathlib import Path

import mlflow
import pytest
from imported_files import NAMED, ROW, write_rows
from pydantic import ValidationError

from isogloss.config import CompareConfig, ImportConfig, explain
from isogloss.errors import ComparisonError
from isogloss.registry.results import evaluation_results
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.import_results import import_results
from isogloss.stages.search_runs import search_runs
from isogloss.tracking.search import equal, find_runs

NAMES = [
    *("a, b", "it's", 'say "x"', "both ' and \"", "back`tick", "50% of it", "semi; colon"),
    *("-- no comment", "a AND b", "ends\\", "[pilot] one", "ünïcode 読む", "two  spaces", "a/b:c"),
]


def rows(path: Path, correct: int = 1) -> str:
    tuned = {"condition": "tuned", "source": "arb_Arab", "seed": 0, "correct": correct}
    return str(write_rows(path, ROW | NAMED, ROW | NAMED | tuned))


@pytest.mark.parametrize("name", ["a, b", "it's", "both ' and \"", "[pilot] one", "ends\\"])
def test_a_study_is_found_by_the_name_that_import_took(name: str, tmp_path: Path) -> None:
    other = import_results(ImportConfig(path=rows(tmp_path / "b.jsonl", 0), study="other"))
    made = import_results(ImportConfig(path=rows(tmp_path / "a.jsonl"), study=name))
    assert len({run.info.run_id for run in [*other, *made]}) == 3  # the base run is reused
    found = collect_runs(CompareConfig(study=json.dumps([name]))).runs
    assert {run.info.run_id for run in found} == {run.info.run_id for run in made}


def test_spaces_around_the_name_of_a_study_do_not_count(tmp_path: Path) -> None:
    made = import_results(ImportConfig(path=rows(tmp_path / "a.jsonl"), study=" mine "))
    found = collect_runs(CompareConfig(study=" mine ")).runs
    assert {run.info.run_id for run in found} == {run.info.run_id for run in made}


@pytest.mark.parametrize(
    "name", ["two\nlines", "tab\there", "line\u2028end", "nul\0", "half\ud800"]
)
def test_a_study_with_control_characters_is_refused(name: str) -> None:
    with pytest.raises(ValidationError) as error:
        ImportConfig(path="a", study=name)
    assert explain(error.value, ImportConfig).startswith("study should be one line of text")


def test_each_of_several_studies_must_have_a_run(tmp_path: Path) -> None:
    import_results(ImportConfig(path=rows(tmp_path / "a.jsonl"), study="a"))
    with pytest.raises(ComparisonError, match=r"study 'b' has no .*, \[\"a, b\"\]"):
        collect_runs(CompareConfig(study="a, b"))


def test_evaluations_are_found_whatever_the_name_of_their_task() -> None:
    for number, name in enumerate(NAMES):
        for adapter, accuracy in (("none", number / 20), (f"adapter{number}", 1 - number / 20)):
            with mlflow.start_run():
                tags = {"kind": "evaluate", "task": name, "adapter": adapter, "format": "letter"}
                tags |= {"language_digests": "heb_Hebr:1", "data_digest": "1", "revision": "r"}
                mlflow.set_tags({f"isogloss.{key}": value for key, value in tags.items()})
                mlflow.log_metrics({"accuracy/heb_Hebr": accuracy, "n/heb_Hebr": 4})
    for number, name in enumerate(NAMES):
        [result] = evaluation_results(f"adapter{number}")
        values = (result.task, result.base, result.tuned)
        assert values == (name, number / 20, 1 - number / 20)


def test_a_filter_finds_the_value_whatever_it_is() -> None:
    for name in [*NAMES, 'both _ and "']:
        with mlflow.start_run():
            mlflow.set_tag("isogloss.task", name)
    for name in NAMES:
        clause = equal("tags.`isogloss.task`", name)
        found = mlflow.search_runs(filter_string=clause, output_format="list")
        assert {run.data.tags["isogloss.task"] for run in found} >= {name}
        assert len(found) <= 2  # where a pattern stands for both quotes
        (exact,) = find_runs(["0"], {"isogloss.task": name})
        assert exact.data.tags["isogloss.task"] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_study_that_only_reuses_runs_is_found_by_any_name(name: str) -> None:
    with mlflow.start_run() as reused:
        tags = {"kind": "evaluate", "fingerprint": "f", "study": "first", "condition": "base"}
        mlflow.set_tags({f"isogloss.{key}": value for key, value in tags.items()})
        mlflow.set_tag("isogloss.studies", f"one\n{name}\nmore {name} more")
    found = search_runs(CompareConfig(study=json.dumps([name]))).runs
    assert [run.info.run_id for run in found] == [reused.info.run_id]
    part = json.dumps([name[:-1]])
    assert search_runs(CompareConfig(study=part)).runs == []
