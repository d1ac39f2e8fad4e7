"""Layouts of lm-evaluation-harness: older versions, names of files, samples without metrics."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from imported_files import DATA, alter_line, imported, lm_eval_folder, write_rows

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.read_results import read_results

NEW_KEYS = ("filter", "metrics")  # since lm-eval 0.4.7


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def unscored(path: Path, metrics: list[str], *names: str) -> Path:
    """Samples as after --predict_only, without the fields `names`."""
    rows = rows_of(path)
    for row in rows:
        for name in names:
            del row[name]
        row["metrics"] = metrics
    return write_rows(path, *rows)


def test_samples_of_0_4_3_are_read_like_those_of_today(tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path)
    today = imported(path, condition="base")
    rows = [
        {name: value for name, value in row.items() if name not in NEW_KEYS}
        for row in rows_of(path)
    ]
    assert imported(write_rows(path, *rows), condition="base").equals(today)
    for row in rows:
        row["em"] = row.pop("acc")
        del row["acc_norm"]
    assert imported(write_rows(path, *rows), condition="base")["correct"].equals(today["correct"])


def test_filters_without_names_are_refused(tmp_path: Path) -> None:
    (samples,) = DATA.glob("samples_gen*")
    rows = [
        {name: value for name, value in row.items() if name not in NEW_KEYS}
        for row in rows_of(samples)
    ]
    path = write_rows(tmp_path / samples.name, *rows)
    message = "has several answers to document 0 and no names of filters, .* since 0.4.7; evaluate"
    with pytest.raises(DataError, match=message):
        imported(path, condition="base")


def test_a_json_list_of_samples_is_of_an_older_version(tmp_path: Path) -> None:
    path = tmp_path / "pretrained__tiny_belebele_arb_Arab.jsonl"
    path.write_text(json.dumps(rows_of(lm_eval_folder(tmp_path)), indent=2))
    with pytest.raises(DataError, match=r"is one JSON list, as lm-eval before 0\.4\.3 writes"):
        imported(path, condition="base")


@pytest.mark.parametrize("folder", [".", "x.json/tiny"])
def test_output_path_may_end_in_json(folder: str, tmp_path: Path) -> None:
    """0.4.9 and later name the results after it; 0.4.3 to 0.4.8 make a folder of this name."""
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    samples = lm_eval_folder(tmp_path / folder, model_args="pretrained=tiny,peft=adapter")
    (results,) = samples.parent.glob("results_*")
    if folder == ".":
        results.rename(results.with_name(results.name.replace("results", "x")))
    with pytest.raises(DataError, match=r"the model has an adapter \(peft\)"):
        imported(tmp_path, condition="base")
    config = ImportConfig(path=str(tmp_path), condition="tuned", source="arb_Arab")
    ((run, table),) = read_results(config).items()
    assert (run.model, run.task, len(table)) == ("tiny", "belebele_local", 4)


@pytest.mark.parametrize("metrics", [[], ["bypass"]])
def test_choices_without_metrics_are_scored_as_lm_eval_does(
    metrics: list[str], tmp_path: Path
) -> None:
    path = lm_eval_folder(tmp_path)
    scored = imported(path, condition="base")
    unscored(path, metrics, "acc", "acc_norm")
    table = imported(path, condition="base")
    assert table.equals(scored)
    assert table["correct"].tolist() == [True, False, False, False]
    ((run, _),) = read_results(ImportConfig(path=str(path), condition="base")).items()
    assert run.metric == "acc"


def test_generated_text_without_metrics_is_refused(tmp_path: Path) -> None:
    (samples,) = DATA.glob("samples_gen*")
    path = tmp_path / samples.name
    path.write_text(samples.read_text())
    unscored(path, ["bypass"], "exact_match")
    with pytest.raises(DataError, match="jsonl:1: there is no metric, as after --predict_only"):
        imported(path, condition="base")


def test_choices_whose_answer_is_unknown_are_refused(tmp_path: Path) -> None:
    path = unscored(lm_eval_folder(tmp_path), [], "acc", "acc_norm")
    alter_line(path, lambda row: row.update(target="the first"))
    with pytest.raises(DataError, match="only choices with a known answer can be scored"):
        imported(path, condition="base")


def test_chain_of_thought_says_what_it_is_compared_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (samples,) = DATA.glob("samples_gen*")
    with caplog.at_level(logging.INFO):
        imported(samples, condition="base+cot")
        assert "base and tuned results that are generated too (format generate)" in caplog.text
        caplog.clear()
        imported(samples, condition="base")
        assert "generated too" not in caplog.text
