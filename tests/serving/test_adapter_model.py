"""A logged adapter, loaded by MLflow: it answers rows exactly as evaluate answers items."""

import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import fastapi
import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import probe
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server import init

import isogloss
from isogloss import tracking
from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ModelError
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import ModelLocation
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.wording import wording
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.registry.pyfunc_model import EXAMPLE, SERVER
from isogloss.serving.adapter_model import (
    QUESTIONS_PER_PASSAGE,
    batches,
    load_adapter_model,
    locate_base,
    with_shared_passages,
)
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.tasks import Item
from isogloss.tasks.sib200 import QUESTION, TOPICS
from isogloss.types import Format, PromptLanguage

SCRIPTS = Path(__file__).parents[2] / "scripts"
LANGUAGES = ("arb_Arab", "heb_Hebr", "eng_Latn")
LIMIT = 4
TRAINING = {"steps": 2, "batch_size": 4, "limit": 8, "dev_limit": 4, "rank": 2, "alpha": 4}
COLUMNS = ["choice", "answer", "probabilities", "valid", "text", "error"]


@dataclass(frozen=True)
class Trained:
    """An adapter that was logged and evaluated, and the model that MLflow loads for it."""

    folder: Path
    logged: list[Path]  # files in the folder before it was loaded
    model: Any
    predictions: pd.DataFrame


Training = Callable[..., Trained]


@pytest.fixture(scope="session")
def trained(
    model_folder: Callable[[str], Path], empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Training:
    """A function that trains an adapter, once per setting, and loads it."""
    cache: dict[tuple[str, str, str], Trained] = {}

    def make(format: Format, prompt_language: PromptLanguage, dtype: str) -> Trained:
        shared = {
            "model": str(model_folder("gemma3")),
            "dtype": dtype,
            "format": format,
            "prompt_language": prompt_language,
        }
        session = Session(shared["model"], dtype)
        tuned = finetune(FinetuneConfig(**shared, **TRAINING), session)
        uri = tuned.data.tags["isogloss.adapter_uri"]
        evaluation = EvaluateConfig(**shared, languages=LANGUAGES, limit=LIMIT)
        with adapter_folder(uri) as folder:
            run = evaluate(evaluation, session, adapter=AdapterRef.in_folder(folder))
        logged = Path(mlflow.artifacts.download_artifacts(uri))
        return Trained(
            logged,
            [path for path in logged.rglob("*") if path.is_file()],
            mlflow.pyfunc.load_model(uri),
            tracking.read_predictions(run.info.run_id),
        )

    def get(
        format: Format, prompt_language: PromptLanguage = "english", dtype: str = "float32"
    ) -> Trained:
        key = (format, prompt_language, dtype)
        if key not in cache:
            folder = tmp_path_factory.mktemp("trained")
            shutil.copy(empty_store, folder / "mlflow.db")
            before = mlflow.get_tracking_uri()
            mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
            cache[key] = make(format, prompt_language, dtype)
            mlflow.set_tracking_uri(before)
        return cache[key]

    return get


def row(item: Item) -> dict[str, Any]:
    """An item as a row of a request."""
    return {
        "passage": item.passage,
        "question": item.question,
        "options": list(item.options),
        "language": item.language,
    }


def mixed() -> list[Item]:
    """Items in which the languages alternate."""
    parallel = zip(*(probe(code, "test", LIMIT) for code in LANGUAGES), strict=True)
    return [item for items in parallel for item in items]


@pytest.mark.parametrize(
    ("format", "prompt_language", "dtype"),
    [
        ("letter", "english", "float32"),
        ("letter", "target", "float32"),
        ("cloze", "english", "float32"),
        ("cloze", "english", "bfloat16"),
        ("generate", "english", "float32"),
    ],
)
def test_a_batch_of_mixed_languages_is_answered_as_evaluate_does(
    trained: Training, format: Format, prompt_language: PromptLanguage, dtype: str
) -> None:
    adapter = trained(format, prompt_language, dtype)
    items = mixed()
    served = adapter.model.predict(pd.DataFrame([row(item) for item in items]))
    assert list(served.columns) == COLUMNS
    logged = adapter.predictions.set_index(["language", "item_id"])
    for item, answer in zip(items, served.itertuples(), strict=True):
        expected = logged.loc[item.language, item.item_id]
        assert answer.choice == expected["prediction"]
        chosen = item.options[answer.choice] if answer.choice >= 0 else None
        assert answer.answer == chosen
        assert answer.valid == expected["valid"]
        assert answer.error is None
        assert answer.text == expected["text"]
        if format == "generate":
            assert answer.probabilities == []
            continue
        scores = expected["choice_logprobs"]
        if format == "cloze":
            scores = scores / [len(option) for option in item.options]
        assert np.log(answer.probabilities) == pytest.approx(
            scores - np.logaddexp.reduce(scores), abs=1e-5
        )
        assert sum(answer.probabilities) == pytest.approx(1)


def test_rows_may_have_different_numbers_of_options_and_default_to_the_training_language(
    trained: Training,
) -> None:
    model = trained("letter", "target").model
    first, second = (row(item) for item in probe("arb_Arab", "test", 2))
    second["options"] = second["options"][:2]
    named = model.predict(pd.DataFrame([first, second]))
    assert [len(values) for values in named["probabilities"]] == [4, 2]
    for absent in ({}, {"language": None}):
        unnamed = [{**one, **absent} for one in (first, second)]
        if not absent:
            for one in unnamed:
                del one["language"]
        pd.testing.assert_frame_equal(model.predict(pd.DataFrame(unnamed)), named)
    other = model.predict(pd.DataFrame([{**first, "language": "eng_Latn"}]))
    assert other["probabilities"][0] != pytest.approx(named["probabilities"][0], abs=1e-5)


def test_english_texts_of_a_task_are_translated_into_the_language_of_the_prompt(
    trained: Training,
) -> None:
    model = trained("letter", "target").model.unwrap_python_model().adapter_model
    hebrew = wording("heb_Hebr").texts
    english = {"passage": "שלום", "question": QUESTION, "options": list(TOPICS)}
    translated = {
        "passage": "שלום",
        "question": hebrew[QUESTION],
        "options": [hebrew[topic] for topic in TOPICS],
    }
    rows = [{**texts, "language": "heb_Hebr"} for texts in (english, translated)]
    one, two = replace(model, own_texts=True).answer(rows)
    assert one.probabilities == two.probabilities
    assert (one.answer, two.answer) == (TOPICS[one.choice], translated["options"][one.choice])


INVALID = {
    "no question": ({"question": None}, "question must be text but is missing."),
    "an empty question": ({"question": " "}, "question must be text but is empty."),
    "a number as question": ({"question": 5}, "question must be text but is 5."),
    "a list as question": ({"question": ["a"]}, r"question must be text but is \['a'\]."),
    "no passage": ({"passage": None}, "passage must be text, .* but is missing."),
    "a number as passage": ({"passage": 1.5}, "passage must be text, .* but is 1.5."),
    "no options": ({"options": None}, "options must be a list of 2 to 26 texts but is missing."),
    "a text as options": ({"options": "A, B"}, "options must be a list .* but is 'A, B'."),
    "an object as options": ({"options": {"A": "x"}}, "options must be a list .* but is {'A'"),
    "no option": ({"options": []}, "options must be a list of 2 to 26 texts but has 0."),
    "one option": ({"options": ["x"]}, "options must be a list of 2 to 26 texts but has 1."),
    "more options than letters": (
        {"options": [f"{number}" for number in range(27)]},
        "options must be a list of 2 to 26 texts but has 27.",
    ),
    "an empty option": ({"options": ["x", ""]}, r"options\[1\] must be text but is empty."),
    "a number as option": ({"options": [3, "x"]}, r"options\[0\] must be text but is 3."),
    "null as option": ({"options": ["x", None]}, r"options\[1\] must be text but is missing."),
    "half a character": (
        {"options": ["x", "\ud800"]},
        r"options\[1\] must be text but holds half of a surrogate pair.",
    ),
    "an unknown language": ({"language": "xx"}, "unknown language 'xx'; expected a FLORES"),
    "a number as language": ({"language": 7}, "language must be text but is 7."),
    "a language without wording": (
        {"language": "ace_Arab"},
        "language 'ace_Arab' has no wording for prompts; expected one of amh_Ethi, arb_Arab,",
    ),
    "a passage that is too long": (
        {"passage": "a library " * 3000},
        "passage, question and options must fit the model's context window of 4,096 tokens",
    ),
    "ten megabytes": (
        {"passage": "a library " * 1_000_000},
        r"passage, question and options have 10,\d{3},\d{3} characters, more than",
    ),
}


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_row_gets_an_error_and_the_others_are_answered_as_without_it(
    trained: Training, kind: str
) -> None:
    model = trained("letter", "target").model
    change, message = INVALID[kind]
    good = [row(item) for item in mixed()[:3]]
    bad = {**good[0], **change}
    without = model.predict(pd.DataFrame(good))
    served = model.predict(pd.DataFrame([bad, good[0], bad, *good[1:]]))
    assert served["error"].str.match(message).fillna(False).tolist() == [
        True, False, True, False, False,
    ]  # fmt: skip
    for _, answer in served.iloc[[0, 2]].iterrows():
        assert answer["choice"] == -1
        assert answer["answer"] is None
        assert answer["probabilities"] == []
        assert not answer["valid"]
        assert answer["error"].count(". ") == 0
        assert answer["error"].endswith(".")
    others = served.drop(index=[0, 2]).reset_index(drop=True)
    pd.testing.assert_frame_equal(others, without)


def test_rows_beyond_the_limit_of_a_request_are_not_answered(
    trained: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogloss.serving.adapter_model.MOST_ROWS", 2)
    adapter = trained("letter", "target").model.unwrap_python_model().adapter_model
    answers = adapter.answer([row(item) for item in mixed()[:3]])
    assert [answer.error is None for answer in answers] == [True, True, False]
    assert "at most 2 rows" in str(answers[2].error)


def test_all_rows_may_be_invalid_or_absent_and_absent_values_are_null_in_json(
    trained: Training,
) -> None:
    model = trained("cloze").model
    bad = {**EXAMPLE[0], "options": []}
    served = model.predict(pd.DataFrame([bad, bad])).to_dict("records")
    assert (
        json.loads(json.dumps(served, allow_nan=False))
        == [
            {
                "choice": -1,
                "answer": None,
                "probabilities": [],
                "valid": False,
                "text": None,
                "error": "options must be a list of 2 to 26 texts but has 0.",
            }
        ]
        * 2
    )
    assert list(model.predict(pd.DataFrame(EXAMPLE).iloc[:0]).columns) == COLUMNS


def test_answers_have_the_order_of_the_rows_for_any_size_of_batch(
    trained: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained("cloze").model
    rows = [row(item) for item in mixed()]
    whole = model.predict(pd.DataFrame(rows))
    monkeypatch.setattr("isogloss.serving.adapter_model.ROWS_PER_CALL", 5)
    parts = model.predict(pd.DataFrame(rows))
    assert list(parts["answer"]) == list(whole["answer"])
    for one, other in zip(parts["probabilities"], whole["probabilities"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_a_limited_number_of_questions_shares_a_passage_within_a_language() -> None:
    passages = ["one"] * (QUESTIONS_PER_PASSAGE + 1) + ["two", "", ""]
    items = {
        number: Item(str(number), "", code, passage, "?", ("a", "b"), 0)
        for number, (passage, code) in enumerate(
            (passage, code) for code in ("arb_Arab", "eng_Latn") for passage in passages
        )
    }
    shared = with_shared_passages(items)
    assert [list(numbers) for numbers in batches(shared)] == [list(range(20)), list(range(20, 40))]
    for numbers in batches(shared):
        counts = Counter(shared[number].passage_id for number in numbers)
        assert sorted(counts.values()) == [1, 1, 1, 1, QUESTIONS_PER_PASSAGE]


def test_whatever_a_task_allows_is_answered(
    trained: Training,
) -> None:
    model = trained("letter").model
    changes = (
        {"passage": ""},
        {"options": ["one", "one"]},
        {"options": [f"{number}" for number in range(26)]},
        {"options": np.array(["one", "two"], dtype=object)},
        {"language": "ace_Arab"},
    )
    rows = [{**EXAMPLE[0], **change} for change in changes]
    served = model.predict(pd.DataFrame(rows))
    assert served["error"].isna().all()
    assert [len(values) for values in served["probabilities"]] == [4, 2, 26, 2, 4]


@pytest.mark.parametrize(("format", "accepted"), [("letter", True), ("generate", False)])
def test_options_beyond_what_the_answer_parser_takes_are_rejected_only_where_text_is_parsed(
    trained: Training, format: Format, accepted: bool
) -> None:
    eleven = {**EXAMPLE[0], "options": [f"{number}" for number in range(11)]}
    served = trained(format).model.predict(pd.DataFrame([eleven, EXAMPLE[0]]))
    message = None if accepted else "options must be a list of 2 to 10 texts but has 11."
    assert served["error"].tolist() == [message, None]
    assert len(served["probabilities"][1]) == (4 if accepted else 0)


@pytest.mark.parametrize("key", ["dataframe_records", "dataframe_split", "inputs"])
def test_half_a_character_in_a_request_is_an_error_of_its_row(
    trained: Training, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    logged = trained("letter")
    monkeypatch.setitem(sys.modules, SERVER, ModuleType(SERVER))
    monkeypatch.setattr(scoring_server, "invocations", scoring_server.invocations)
    monkeypatch.setattr(fastapi, "FastAPI", fastapi.FastAPI)
    with pd.option_context("mode.string_storage", "auto"):
        client = TestClient(init(mlflow.pyfunc.load_model(str(logged.folder))))
        rows = [EXAMPLE[0], {**EXAMPLE[0], "passage": "x\ud800"}, EXAMPLE[1]]
        split = {"columns": list(rows[0]), "data": [list(one.values()) for one in rows]}
        body = json.dumps({key: split if "split" in key else rows})
        response = client.post(
            "/invocations", content=body, headers={"Content-Type": "application/json"}
        )
    assert response.status_code == 200, response.text
    first, bad, last = response.json()["predictions"]
    assert bad["error"] == "passage must be text but holds half of a surrogate pair."
    expected = logged.model.predict(EXAMPLE).to_dict("records")
    for answer, theirs in zip((first, last), expected, strict=True):
        assert answer.pop("probabilities") == pytest.approx(theirs.pop("probabilities"), abs=1e-6)
        assert answer == theirs


def test_loading_a_model_outside_a_server_changes_no_setting_of_pandas(trained: Training) -> None:
    before = pd.get_option("mode.string_storage")
    mlflow.pyfunc.load_model(str(trained("letter").folder))
    assert pd.get_option("mode.string_storage") == before


def test_a_column_that_no_row_has_is_rejected_by_name(
    trained: Training,
) -> None:
    model = trained("letter").model
    with pytest.raises(mlflow.MlflowException, match=r"Model is missing inputs \['question'\]"):
        model.predict(pd.DataFrame(EXAMPLE).drop(columns="question"))


def test_concurrent_requests_are_answered_as_consecutive_ones(
    trained: Training,
) -> None:
    model = trained("cloze").model
    batches = [pd.DataFrame([row(item)]) for item in mixed()]
    alone = [model.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(model.predict, batches))
    for one, other in zip(alone, at_once, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_the_logged_model_consists_of_code_and_safetensors_without_pickles(
    trained: Training,
) -> None:
    paths = trained("letter").logged
    names = [path.name for path in paths]
    assert {"MLmodel", "pyfunc_entry.py", "isogloss.zip", "adapter_model.safetensors"} <= set(names)
    assert len(paths) < 20  # a tracking server takes one request for each
    weights = (".safetensors", ".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib", ".npy", ".npz")
    assert [name for name in names if name.endswith(weights)] == ["adapter_model.safetensors"]
    assert not [name for name in names if name.endswith(".pyc")]
    for path in paths:
        beginning = path.read_bytes()[:4]
        assert not (beginning[:1] == b"\x80" and beginning[1:2] in b"\x01\x02\x03\x04\x05"), path
        assert (beginning == b"PK\x03\x04") == (path.name == "isogloss.zip"), path


def test_the_logged_code_is_the_package_without_simulations(trained: Training) -> None:
    (path,) = (path for path in trained("letter").logged if path.name == "isogloss.zip")
    package = Path(isogloss.__file__).parent
    files = {
        file.relative_to(package.parent).as_posix(): file.read_bytes()
        for file in package.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    simulations = {path.name for path in SCRIPTS.glob("*.py")} - {"__init__.py"}
    assert {"simulation.py", "calibrate.py"} <= simulations
    assert not {Path(name).name for name in files} & simulations
    assert not [name for name in files if "simulat" in name]


def test_a_process_that_has_isogloss_does_not_get_that_of_the_model(trained: Training) -> None:
    assert trained("letter").model
    assert not [entry for entry in sys.path if entry.endswith("isogloss.zip")]


def test_a_process_without_isogloss_answers_by_the_code_and_data_of_the_model(
    trained: Training, tmp_path: Path
) -> None:
    (file,) = (path for path in trained("letter").logged if path.name == "isogloss.zip")
    installed = str(Path(isogloss.__file__).parents[1])
    code = (
        f"import sys; sys.path = [entry for entry in sys.path if entry != {installed!r}]; "
        f"import mlflow; assert 'isogloss' not in sys.modules; "
        f"model = mlflow.pyfunc.load_model({str(file.parents[1])!r}); import isogloss; "
        f"print(isogloss.__file__, len(model.predict({EXAMPLE!r})['choice']))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{file}/isogloss/__init__.py {len(EXAMPLE)}"


def test_the_example_is_stored_without_loading_a_model_to_run_it(
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("mlflow.pyfunc.load_model", lambda uri, **_: loaded.append(uri))
    monkeypatch.setattr("isogloss.serving.adapter_model.load", lambda *_: loaded.append("base"))
    config = FinetuneConfig(model=str(model_folder("gemma3")), dtype="float32", **TRAINING)
    run = finetune(config, Session(config.model, "float32"))
    assert loaded == []
    assert not [
        record
        for record in caplog.records
        if record.name.startswith("mlflow") and record.levelno > logging.INFO
    ]
    folder = Path(mlflow.artifacts.download_artifacts(run.data.tags["isogloss.adapter_uri"]))
    assert json.loads((folder / "serving_input_example.json").read_text()) == {"inputs": EXAMPLE}


WITHOUT_PACKAGE = """
import importlib.util, json, sys
# `make install` makes the package importable; a serving machine does not have it.
sys.path[:] = [path for path in sys.path if not path.endswith("/src")]
assert importlib.util.find_spec("isogloss") is None
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
import isogloss
assert isogloss.__file__.startswith(sys.argv[1]), isogloss.__file__
print(json.dumps(model.predict(json.load(sys.stdin)).to_dict("records"), allow_nan=False))
"""


@pytest.mark.real
def test_a_process_without_the_package_loads_the_model_and_answers_the_same(
    trained: Training, tmp_path: Path
) -> None:
    adapter = trained("letter", "target")
    rows = [row(item) for item in mixed()]
    rows[2] = {**rows[2], "question": 7}
    (tmp_path / "elsewhere").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(adapter.folder)], cwd=tmp_path / "elsewhere",
        env=environment, input=json.dumps(rows), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    expected = adapter.model.predict(rows).to_dict("records")
    for theirs, ours in zip(json.loads(result.stdout), expected, strict=True):
        assert theirs.pop("probabilities") == pytest.approx(ours.pop("probabilities"), abs=1e-6)
        assert theirs == ours


def test_the_base_is_located_at_the_revision_that_the_adapter_was_trained_on(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model_folder("gemma3"), tmp_path / "copy")
    revision = Session(str(model_folder("gemma3"))).location.revision
    assert locate_base(str(folder), revision).folder == folder
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"but the adapter was trained on {revision}"):
        locate_base(str(folder), revision)
    names: list[str] = []

    def locate(name: str) -> ModelLocation:
        names.append(name)
        return ModelLocation("Qwen/Qwen3-0.6B", tmp_path, "0123abcd")

    monkeypatch.setattr("isogloss.serving.adapter_model.locate", locate)
    locate_base("Qwen/Qwen3-0.6B", "0123abcd")
    assert names == ["Qwen/Qwen3-0.6B@0123abcd"]


def test_the_base_is_loaded_with_the_dtype_attention_and_device_map_of_training(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[object, ...]] = []

    def load(*arguments: object) -> LanguageModel:
        loaded.append(arguments)
        return tiny

    module = "isogloss.serving.adapter_model"
    monkeypatch.setattr(f"{module}.locate_base", lambda name, revision: f"{name}@{revision}")
    monkeypatch.setattr(f"{module}.load", load)
    monkeypatch.setattr(f"{module}.attach", lambda model, adapter: f"digest of {adapter.name}")
    settings = {
        "base_model": "base",
        "base_revision": "1",
        "own_texts": False,
        "base_dtype": "bfloat16",
        "protocol": Protocol(Format.CLOZE, max_new_tokens=9).as_dict(),
        "trained_language": "mlt_Latn",
        "window": 77,
    }
    adapter = load_adapter_model(settings, tmp_path / "adapter")
    assert adapter.model is tiny
    assert adapter.digest == "digest of adapter"
    assert adapter.protocol == Protocol(Format.CLOZE, max_new_tokens=9)
    assert (adapter.language, adapter.window) == ("mlt_Latn", 77)
    load_adapter_model(
        {**settings, "base_attention": "eager", "base_device_map": "auto"}, tmp_path / "adapter"
    )
    assert loaded == [
        ("base@1", "bfloat16", "auto", "none"),
        ("base@1", "bfloat16", "eager", "auto"),
    ]
