"""Results of other tools become evaluate runs; invalid input is rejected with file and line.

tests/data/imports was written by lm-eval 0.4.13 (a tiny random model) and inspect_ai 0.3.285
(mockllm) from made-up questions; prompts, events and the environment were cut from it.
"""

import importlib
import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Run
from synthetic_predictions import gains, tables

from isogloss import tracking
from isogloss.analysis.comparison import compare
from isogloss.config import CompareConfig, EvaluateConfig, ImportConfig
from isogloss.errors import IsoglossError
from isogloss.importers.read_results import read_results
from isogloss.stages.collect_runs import group_runs, read_tables
from isogloss.stages.compare import run_compare
from isogloss.stages.evaluate import evaluate
from isogloss.stages.import_results import import_results, run_import
from isogloss.stages.session import Session

pytestmark = pytest.mark.usefixtures("no_figures")

DATA = Path(__file__).parents[1] / "data" / "imports"
ROW = {"language": "heb_Hebr", "item_id": "i", "passage_id": "p", "correct": 1}
NAMED = {"model": "m", "condition": "base", "task": "quiz", "format": "letter"}


def runs(kind: str) -> list[Run]:
    return mlflow.search_runs(
        filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list",
        search_all_experiments=True,
    )  # fmt: skip


def tags(run: Run) -> dict[str, str]:
    found = run.data.tags.items()
    return {key.removeprefix("isogloss."): v for key, v in found if key.startswith("isogloss.")}


def read(path: object, **parameters: object) -> pd.DataFrame:
    """The only table in the results."""
    (table,) = read_results(ImportConfig(path=str(path), **parameters)).values()
    return table


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(message: str, path: object, **parameters: object) -> None:
    """The command exits with status 2 and one sentence, and creates no run."""
    command = importlib.import_module("entrypoints.import").main
    options = [f"--{key}={value}" for key, value in {"path": path, **parameters}.items()]
    result = CliRunner().invoke(command, options)
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert mlflow.search_runs(search_all_experiments=True).empty


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """The folder of an lm-eval run, with its results file."""
    return Path(shutil.copytree(DATA, tmp_path / "lm", ignore=shutil.ignore_patterns("quiz*")))


def alter(path: Path, change: Callable[[dict[str, object]], object], line: int = 0) -> Path:
    """Change one line of JSON lines, or a whole JSON file, in place."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    change(rows[line])
    return write(path, *rows)


def test_samples_of_lm_eval_have_belebeles_ids_and_the_choices_of_the_model() -> None:
    table = read(DATA / "samples_belebele*", condition="base")
    assert list(table["language"]) == ["arb_Arab"] * 4 + ["heb_Hebr"] * 4
    assert table["item_id"][2] == "https://example.org/1#1"
    assert table["passage_id"].nunique() == 2
    assert (set(table["task"]), set(table["format"])) == ({"belebele_local"}, {"letter"})
    assert list(table["correct"][:4]) == [True, False, False, False]
    assert list(table["answer"][:4]) == [0, 1, 2, 3]
    assert list(table["prediction"][:4]) == list(table["forced"][:4]) == [0] * 4
    assert list(table["greedy"]) == [-1] * 8
    assert not table["valid"].any()
    for row in table.itertuples():
        odds = np.exp(row.choice_logprobs)
        assert row.gold_logprob == pytest.approx(math.log(odds[row.answer] / odds.sum()))


def test_a_cloze_task_is_recognised_by_its_choices_and_acc_norm_has_no_prediction() -> None:
    table = read(DATA / "samples_cloze*", condition="base", metric="acc_norm")
    assert set(table["format"]) == {"cloze"}
    assert "prediction" not in table
    assert {"answer", "gold_logprob", "choice_logprobs"} <= set(table)


def test_the_first_of_several_filters_is_used_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = read(DATA / "samples_gen*", condition="base+cot")
    assert len(table) == 4
    assert "strict-match, flexible-extract; the first is used" in caplog.text
    assert set(table["format"]) == {"generate"}
    assert not table["valid"].any()
    assert table["text"].str.len().min() > 0
    caplog.clear()
    read(DATA / "samples_gen*", condition="base", metric="exact_match,flexible-extract")
    assert "the first is used" not in caplog.text


def test_an_adapter_of_lm_eval_is_imported_under_its_base_model(samples: Path) -> None:
    (results,) = samples.glob("results*")
    alter(results, lambda it: it["config"]["model_args"].update(peft="adapter"))
    refused("the model has an adapter (peft), but condition is base", samples, condition="base")
    config = ImportConfig(path=f"{samples}/*bel*", condition="tuned", source="arb_Arab", seed=3)
    ((key, _),) = read_results(config).items()
    assert (key.model, key.source, key.seed) == ("tiny", "arb_Arab", "3")


def test_a_log_of_inspect_has_answers_texts_and_validity() -> None:
    table = read(DATA / "quiz.json", condition="base")
    assert list(table["item_id"][:2]) == ["arb_Arab-0", "arb_Arab-1"]
    assert list(table["passage_id"][:4]) == ["p0", "p0", "p1", "p1"]
    assert list(table["prediction"][:4]) == list(table["greedy"][:4]) == [1, -1, 2, 0]
    assert list(table["valid"][:4]) == [True, False, True, True]
    assert list(table["correct"]) == list(table["answer"] == table["prediction"])
    assert table["text"][0] == "ANSWER: B"


def test_each_epoch_of_inspect_is_a_seed(tmp_path: Path) -> None:
    config = ImportConfig(path=str(DATA / "quiz_epochs.json"), condition="base", task="quiz")
    assert [(key.seed, len(rows)) for key, rows in read_results(config).items()] == [
        ("1", 8), ("2", 8),
    ]  # fmt: skip
    refused(
        "epoch 2: seed is 2 in the file but 1 as a parameter", config.path, condition="base", seed=1
    )


def test_a_table_becomes_one_run_per_condition_and_compare_accepts_them(tmp_path: Path) -> None:
    parts = [
        rows.assign(model="m", condition=cell.condition, source=cell.source, seed=cell.seed)
        for cell, rows in tables(gains(0.2, 0.05), n=40).items()
    ]
    pd.concat(parts).to_csv(tmp_path / "all.csv", index=False)
    base, tuned = import_results(ImportConfig(path="all.csv", study="s"))
    (parent,) = runs("import")
    assert base.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [run.info.run_name for run in (parent, base, tuned)] == [
        "import s: base and tuned · m · belebele",
        "base · m · belebele",
        "tuned · m on Standard Arabic, seed 0 · belebele",
    ]
    expected = {
        **{"kind": "evaluate", "model": "m", "source": "arb_Arab", "adapter": "none"},
        **{"task": "belebele", "format": "letter", "reasoning": "direct", "condition": "base"},
        **{"study": "s", "imported": "all.csv", "prompt_version": "imported"},
    }
    digests = {
        name: tags(base)[name] for name in ("fingerprint", "data_digest", "artifacts", "process")
    }
    assert tags(base) == expected | digests
    assert tags(tuned)["adapter"] == "imported-arb_Arab-0"
    assert tags(tuned)["seed"] == "0"
    assert tags(tuned)["data_digest"] == tags(base)["data_digest"]
    values = base.data.metrics
    assert values["accuracy/heb_Hebr"] == 0.4
    assert values["accuracy_group/related"] == pytest.approx(0.4)
    assert {"accuracy_se/heb_Hebr", "gold_logprob/heb_Hebr", "format_valid/heb_Hebr"} <= set(values)
    assert tracking.read_predictions(tuned.info.run_id)["correct"].dtype == bool
    compared = compare(read_tables(group_runs([base, tuned])), source="arb_Arab")
    assert compared.contrast.estimate == pytest.approx(0.15, abs=0.01)


def test_results_of_a_pooled_source_are_one_source_whatever_the_order_of_its_languages(
    tmp_path: Path,
) -> None:
    # Of the targets of `gains`, Semitic ones but the pooled Hebrew are related to the pool.
    parts = [
        rows.assign(model="m", condition=cell.condition, source=cell.source, seed=cell.seed)
        for cell, rows in tables(gains(0.2, 0.05), n=40).items()
    ]
    table = pd.concat(parts)
    tuned = table["condition"] == "tuned"
    table.loc[tuned, "source"] = "heb_Hebr + arb_Arab"
    table.to_csv(tmp_path / "all.csv", index=False)
    base, run = import_results(ImportConfig(path="all.csv", study="s", source=None))
    assert tags(run)["source"] == tags(base)["source"] == "arb_Arab+heb_Hebr"
    assert tags(run)["adapter"] == "imported-arb_Arab+heb_Hebr-0"
    accuracy = {
        code: run.data.metrics[f"accuracy/{code}"] for code in ("amh_Ethi", "mlt_Latn", "tir_Ethi")
    }
    assert run.data.metrics["accuracy_group/related"] == pytest.approx(sum(accuracy.values()) / 3)
    compared = mlflow.get_run(run_compare(CompareConfig(study="s", source="heb_Hebr+arb_Arab")))
    means = table.groupby([tuned.rename("tuned"), "language"])["correct"].mean()
    gain = means[True] - means[False]
    related = ["amh_Ethi", "mlt_Latn", "tir_Ethi"]
    expected = gain[related].mean() - gain.drop([*related, "heb_Hebr"]).mean()
    assert compared.data.metrics["contrast/accuracy"] == pytest.approx(expected)
    again = import_results(ImportConfig(path="all.csv", study="s", source="arb_Arab+heb_Hebr"))
    assert {one.info.run_id for one in again} == {base.info.run_id, run.info.run_id}


def test_an_earlier_import_is_reused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROW | NAMED, ROW | NAMED | {"item_id": "j"})
    write(tmp_path / "b.jsonl", ROW | NAMED | {"item_id": "j"}, ROW | NAMED)
    (first,) = import_results(ImportConfig(path="a.jsonl"))
    (again,) = import_results(ImportConfig(path="b.jsonl", study="late"))
    assert again.info.run_id == first.info.run_id
    assert len(runs("evaluate")) == 1
    assert tracking.studies_of(mlflow.get_run(first.info.run_id)) == ["late"]
    write(tmp_path / "b.jsonl", ROW | NAMED)
    import_results(ImportConfig(path="b.jsonl"))
    assert len(runs("evaluate")) == 2


def test_two_adapters_of_unknown_seed_remain_two(tmp_path: Path) -> None:
    tuned = ROW | NAMED | {"condition": "tuned", "source": "arb_Arab"}
    write(tmp_path / "a.jsonl", tuned)
    write(tmp_path / "b.jsonl", tuned | {"correct": 0})
    made = [import_results(ImportConfig(path=name))[0] for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(IsoglossError, match="have different adapters"):
        group_runs(made)


def test_under_mlflow_run_its_run_is_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = mlflow.MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    write(tmp_path / "a.jsonl", ROW | NAMED, ROW | NAMED | {"model": "n"})
    made = import_results(ImportConfig(path="a.jsonl"))
    assert {run.data.tags["mlflow.parentRunId"] for run in made} == {opened}
    assert tags(mlflow.get_run(opened))["cells"] == " ".join(run.info.run_id for run in made)


def test_the_printed_lines_of_base_rows_of_several_sources_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [
        ROW | NAMED | {"condition": condition, "source": source}
        for source in ("arb_Arab", "tur_Latn")
        for condition in ("base", "tuned")
    ]
    write(tmp_path / "a.jsonl", *table)
    run_import(ImportConfig(path="a.jsonl"))
    lines = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == [
        "base       m, quiz (letter), rows of source arb_Arab",
        "base       m, quiz (letter), rows of source tur_Latn",
        "tuned      m, quiz (letter), tuned on arb_Arab",
        "tuned      m, quiz (letter), tuned on tur_Latn",
    ]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_an_exported_and_imported_run_has_the_same_accuracies(
    suffix: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    config = EvaluateConfig(
        model=str(model_folder("gemma3")), dtype="float32", languages=("heb_Hebr", "fra_Latn"),
        limit=6,
    )  # fmt: skip
    own = evaluate(config, Session(config.model, config.dtype))
    table = tracking.read_predictions(own.info.run_id)
    path = tmp_path / f"own.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    (run,) = import_results(
        ImportConfig(path=str(path), model="tiny", condition="base", source="arb_Arab")
    )
    values = run.data.metrics
    assert {"accuracy/mean", "accuracy_group/related", "gold_logprob/fra_Latn"} <= set(values)
    shared = {name: value for name, value in values.items() if "_group/" not in name}
    assert shared == pytest.approx({name: own.data.metrics[name] for name in shared})
    columns = set(tracking.read_predictions(run.info.run_id))
    assert ("choice_logprobs" in columns) == (suffix == "parquet")
    assert "text" not in columns


@settings(max_examples=30, deadline=None)
@given(
    right=st.lists(st.booleans(), min_size=1, max_size=8),
    spelling=st.sampled_from([("1", "0"), ("true", "false"), ("True", "False"), ("1.0", "0.0")]),
    separator=st.sampled_from([",", "\t"]),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip),
    seed=st.integers(0, 99),
)
def test_row_order_spelling_and_separator_of_a_table_do_not_matter(
    right: list[bool], spelling: tuple[str, str], separator: str, name: str, seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    rows = [
        {**NAMED, **ROW, "item_id": f"{name} {at}", "correct": spelling[not each]}
        for at, each in enumerate(right)
    ]
    path = tmp_path_factory.mktemp("any") / "table"
    pd.DataFrame(random.Random(seed).sample(rows, len(rows))).to_csv(
        path, index=False, sep=separator
    )
    table = read(path)
    assert dict(zip(table["item_id"], table["correct"], strict=True)) == {
        f"{name} {at}": each for at, each in enumerate(right)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "heb_Hber"}, "a.jsonl:2: unknown language 'heb_Hber'; expected heb_Hebr"),
        ({"language": None}, "a.jsonl:2 does not state its language; set the parameter language"),
        (
            {"correct": 0.5},
            "a.jsonl:2: correct must be 0, 1, true or false but is 0.5; a score between",
        ),
        ({"correct": 2}, "correct must be 0, 1, true or false but is 2"),
        ({"correct": "yes"}, "correct must be 0, 1, true or false but is 'yes'"),
        (
            {"item_id": "i"},
            "a.jsonl:2: duplicate item 'i' in heb_Hebr for m, base",
        ),
        ({"item_id": ""}, "a.jsonl:2: item_id must be text but is ''"),
        ({"passage_id": None}, "a.jsonl:2: there is no field passage_id; set passage=FIELD"),
        (
            {"condition": "best"},
            "condition must be one of base, tuned, base+cot, tuned+cot but is 'bes",
        ),
        ({"condition": "tuned"}, "a.jsonl:2 does not state its source; set the parameter source"),
        ({"condition": "tuned", "source": "arb"}, "unknown language 'arb'; expected arb_Arab"),
        (
            {"condition": "tuned", "source": "arb_Arab+heb"},
            "a.jsonl:2: unknown language 'heb'; expected heb_Hebr",
        ),
        ({"format": "essay"}, "format must be one of letter, cloze, generate but is 'essay'"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0 but is 1.5"),
        ({"answer": "B"}, "answer must be a finite number but is 'B'"),
        ({"answer": 1, "prediction": 2}, "correct is True but prediction is 2 and answer is 1"),
        (
            {"gold_logprob": "-inf"},
            "gold_logprob of item 'j' in heb_Hebr is -inf, which is not a score",
        ),
    ],
)
def test_an_invalid_row_is_rejected(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.jsonl", ROW | NAMED, ROW | NAMED | {"item_id": "j"} | change)
    refused(message, "a.jsonl")


@pytest.mark.parametrize("name", ["model", "condition", "task", "format"])
def test_parameters_fill_in_what_a_file_does_not_state_and_must_not_contradict_it(
    name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", {**ROW, **NAMED})
    other = {"condition": "base+cot", "format": "cloze"}.get(name, "other")
    refused(
        f"a.jsonl:1: {name} is {NAMED[name]} in the file but {other} as a parameter",
        path,
        **{name: other},
    )
    assert len(read(path, **NAMED)) == 1
    write(path, {**ROW, **{key: value for key, value in NAMED.items() if key != name}})
    refused(f"a.jsonl:1 does not state its {name}; set the parameter {name}", path)
    assert len(read(path, **{name: NAMED[name]})) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv:1: expected a line of column names but the file is empty"),
        ("a.csv", b"language,item_id\n", "a.csv has no rows"),
        ("a.csv", b"lang,item_id\nx,y\n", "a.csv:2: there is no field language and no passage_id and no"),
        ("a.csv", b"a,a\n1,2\n", "column names must be unique"),
        ("a.csv", b"a,b\n1\n", "a.csv:2: 1 values but 2 columns"),
        ("a.csv", b"a,b\n1,\"2\n", "a.csv:2: the row cannot be read"),
        ("a.csv", "é,b\n1,2\n".encode("latin-1"), "a.csv is not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl:2: the line is not JSON"),
        ("a.json", b'{"a": ', "a.json is not JSON"),
        ("a.json", b'{"results": {}}', "is not a log of inspect_ai; for lm-eval import samples_*.jsonl"),
        ("a.parquet", b"PAR1....", "a.parquet is not a Parquet table"),
        ("a.eval", b"PK\x03\x04", "is a binary log; export it as JSON with `inspect log dump a.eval`"),
    ],
)  # fmt: skip
def test_an_unreadable_file_is_rejected(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "0.jsonl", ROW | NAMED)  # valid files are not imported either
    (folder / name).write_bytes(content)
    refused(message, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.update(acc=0.5), "jsonl:1: acc must be 0, 1, true or false but is 0.5"),
        (
            lambda it: it["doc"].update(dialect="heb_Hebr"),
            "heb_Hebr in dialect but arb_Arab in the",
        ),
        (lambda it: it["doc"].pop("link"), "there is no field link; set passage=FIELD"),
        (lambda it: it.pop("target"), "jsonl:1: there is no field target; the fields are doc_id"),
        (lambda it: it.update(filtered_resps=3), "are not in the layout of lm-eval"),
    ],
)
def test_an_invalid_sample_of_lm_eval_is_rejected(
    change: Callable[[dict[str, object]], object], message: str, samples: Path
) -> None:
    (path,) = samples.glob("samples_belebele*arb*")
    alter(path, change)
    refused(message, samples, condition="base")


def test_missing_metrics_filters_and_models_of_lm_eval_are_named(samples: Path) -> None:
    (path,) = samples.glob("samples_belebele*arb*")
    refused(
        "there is no field f1 (named by the parameter metric", path, condition="base", metric="f1"
    )
    refused("has no filter 'x'; it has none", path, condition="base", metric="acc,x")
    renamed = path.rename(path.with_name("renamed.jsonl"))
    refused("does not state its model; set the parameter model", renamed, condition="base")
    assert len(read(renamed, condition="base", model="m", task="belebele", passage="doc_id")) == 4
    refused("language is arb_Arab in the file but heb_Hebr as a parameter", renamed, condition="base", model="m",
            task="belebele", language="heb_Hebr")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.update(status="cancelled"), "its status is 'cancelled'"),
        (lambda it: it.update(invalidated=True), "its status is 'invalidated'"),
        (lambda it: it.pop("samples"), "has no samples"),
        (lambda it: it["samples"][1].update(error={"message": "no"}), "'arb_Arab-1' failed: 'no'"),
        (lambda it: it["samples"][1].update(scores={}), "sample 'arb_Arab-1' has no score"),
        (
            lambda it: it["samples"][0]["scores"].update(match={}),
            "one of the scorers choice, match",
        ),
        (lambda it: it["samples"][0]["scores"]["choice"].update(value="P"), "score must be 0, 1"),
        (lambda it: it["samples"][0]["metadata"].pop("language"), "does not state its language"),
        (
            lambda it: it["samples"].append(it["samples"][0]),
            "duplicate item 'arb_Arab-0' in arb_Arab",
        ),
    ],
)
def test_an_invalid_log_of_inspect_is_rejected(
    change: Callable[[dict[str, object]], object], message: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(DATA / "quiz.json", tmp_path))
    refused(message, alter(path, change), condition="base")


def test_the_language_comes_from_the_task_name_or_a_named_field(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(DATA / "quiz.json", tmp_path))

    def one(log: dict[str, object]) -> None:
        log["eval"]["task"] = "suite/quiz_heb_Hebr"
        for sample in log["samples"]:
            sample["metadata"] = {"text": sample["id"], "tongue": "heb_Hebr"}

    alter(path, one)
    table = read(path, condition="base", passage="text", model="gpt")
    assert (set(table["task"]), set(table["language"])) == ({"quiz"}, {"heb_Hebr"})
    assert "model mockllm/model is imported as gpt" in caplog.text
    assert len(read(path, condition="base", passage="id", language="tongue")) == 8
    with pytest.raises(
        IsoglossError, match=r"there is no field speech .named by the parameter language"
    ):
        read(path, condition="base", passage="id", language="speech")
