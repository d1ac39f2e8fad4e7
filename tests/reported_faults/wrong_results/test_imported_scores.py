"""Scores that are NaN or infinite are refused by item and language; so are wrong logarithms."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from imported_files import (
    NAMED,
    ROW,
    alter_line,
    imported,
    inspect_log,
    lm_eval_folder,
    write_rows,
)

from isogloss import compare
from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.read_results import read_results
from isogloss.stages.import_results import import_results


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "-Infinity"])
@pytest.mark.parametrize("choice", [0, 3])
def test_log_likelihoods_of_lm_eval(value: str, choice: int, tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path)
    alter_line(path, lambda row: row["filtered_resps"].__setitem__(choice, [value, "False"]), 2)
    message = (
        r"jsonl:3: a log-likelihood of item 'https://example.org/1#1' in arb_Arab is -?(nan|inf)"
    )
    with pytest.raises(DataError, match=message):
        imported(path, condition="base")


def test_log_likelihoods_without_the_prompt_count_too(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        for number in range(4):
            row["arguments"][f"gen_args_{4 + number}"] = {"arg_0": "", "arg_1": "A"}
            row["filtered_resps"].append(["nan" if number == 1 else "-1.0", "False"])

    with pytest.raises(DataError, match=r"in arb_Arab is nan"):
        imported(alter_line(lm_eval_folder(tmp_path), change), condition="base")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan"])
def test_accuracies_of_lm_eval(value: object, tmp_path: Path) -> None:
    path = alter_line(lm_eval_folder(tmp_path), lambda row: row.update(acc=value))
    with pytest.raises(DataError, match=r"acc of item '.*#1' in arb_Arab is (nan|inf)"):
        imported(path, condition="base")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_scores_of_inspect(value: float, tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        log["samples"][5]["scores"]["choice"]["value"] = value

    message = r"score choice of item 'heb_Hebr-1' in heb_Hebr is (nan|-inf)"
    with pytest.raises(DataError, match=message):
        imported(inspect_log(tmp_path, change), condition="base")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_value_in_a_dictionary_of_inspect_is_not_zero(
    value: object, tmp_path: Path
) -> None:
    def change(log: dict[str, Any]) -> None:
        for sample in log["samples"]:
            sample["scores"]["choice"]["value"] = {"first": 1, "second": 0}
        log["samples"][2]["scores"]["choice"]["value"] = {"first": value, "second": 0}

    path = inspect_log(tmp_path, change)
    assert not imported(path, condition="base", metric="choice.second")["correct"].any()
    with pytest.raises(DataError, match=r"sample 'arb_Arab-2': score"):
        imported(path, condition="base", metric="choice.first")


@pytest.mark.parametrize("name", ["correct", "gold_logprob"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "-inf"])
def test_scores_of_a_table(name: str, value: object, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ROW | NAMED | {name: value})
    with pytest.raises(
        DataError, match=rf"a\.jsonl:1: {name} of item 'i' in heb_Hebr is -?(nan|inf)"
    ):
        imported(path)


def test_scores_of_a_parquet_table_that_are_nan_and_not_null(tmp_path: Path) -> None:
    rows = pd.DataFrame([ROW | NAMED, ROW | NAMED | {"item_id": "j"}])
    path = tmp_path / "a.parquet"
    rows.assign(gold_logprob=[-1.0, None]).to_parquet(path)
    assert "gold_logprob" not in imported(path)  # missing, and said so
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = pa.array([-1.0, float("nan")])
    pq.write_table(pa.Table.from_pandas(rows).append_column("gold_logprob", scores), path)
    with pytest.raises(DataError, match=r"row 2: gold_logprob of item 'j' in heb_Hebr is nan"):
        imported(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choice_logprobs": [-1.0, float("nan")]}, "choice_logprobs must be a finite number"),
        ({"choice_logprobs": [-1.0, None]}, "choice_logprobs must be a finite number"),
        ({"gold_logprob": 0.7}, "gold_logprob must be a log-likelihood, at most 0, but is 0.7"),
        ({"choice_logprobs": [1.5, 2.0]}, "choice_logprobs must be a log-likelihood"),
        (
            {"choice_logprobs": [-1, -2], "answer": 2, "prediction": 2},
            "is 2 but choice_logprobs has 2 choices, which are counted from 0",
        ),
        ({"correct": "1,0"}, "correct must be 0, 1, true or false but is '1,0'"),
        ({"gold_logprob": "-1,5"}, "finite number but is '-1,5'; write decimals with a point"),
        ({"correct": "yes"}, "correct must be 0, 1, true or false but is 'yes'"),
        ({"correct": ""}, "correct must be 0, 1, true or false but is ''"),
        ({"answer": "B"}, "answer must be a finite number but is 'B'"),
    ],
)
def test_a_value_that_cannot_be_what_its_column_says(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "a.jsonl", ROW | NAMED | change)
    with pytest.raises(DataError, match=rf"a\.jsonl:1: .*{message}"):
        imported(path)


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true", "TRUE", "1.0"])
def test_spellings_of_a_correct_answer(value: object, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ROW | NAMED | {"correct": value})
    assert imported(path)["correct"].tolist() == [True]


def test_ids_are_kept_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "model,condition,task,format,language,item_id,passage_id,correct\n"
        + "".join(f"m,base,quiz,letter,heb_Hebr,{name},p,1\n" for name in ("01", "1", "1.0", "1e0"))
    )
    assert imported(path)["item_id"].tolist() == ["01", "1", "1.0", "1e0"]


def test_a_base_run_without_a_source_has_no_groups(tmp_path: Path) -> None:
    rows = [ROW | NAMED, ROW | NAMED | {"language": "fra_Latn"}]
    path = write_rows(tmp_path / "a.jsonl", *rows)
    (run,) = import_results(ImportConfig(path=str(path)))
    assert "isogloss.source" not in run.data.tags
    assert set(run.data.metrics) >= {"accuracy/mean", "accuracy/heb_Hebr"}
    assert not [name for name in run.data.metrics if name.startswith("accuracy_group")]
    (swahili,) = import_results(ImportConfig(path=str(path), source="swh_Latn"))
    assert swahili.data.metrics["accuracy_group/control"] == 1


def test_a_base_run_takes_the_source_of_the_only_tuned_runs(tmp_path: Path) -> None:
    tuned = ROW | NAMED | {"condition": "tuned", "source": "swh_Latn"}
    path = write_rows(tmp_path / "a.jsonl", ROW | NAMED, tuned)
    runs = read_results(ImportConfig(path=str(path)))
    assert [run.source for run in runs] == ["swh_Latn", "swh_Latn"]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_log_likelihoods_of_a_data_frame(value: float) -> None:
    rows = [
        {"model": "m", "condition": condition, "language": "heb_Hebr", "item_id": "i", "correct": 1}
        for condition in ("base", "tuned")
    ]
    rows[1]["choice_logprobs"] = [-1.0, value]
    message = "choice_logprobs. of item 'i' in heb_Hebr must be finite"
    with pytest.raises(DataError, match=message):
        compare(pd.DataFrame(rows), source="arb_Arab")
