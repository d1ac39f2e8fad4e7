"""The model that MLflow stores for an adapter: it answers as evaluate does, row by row."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import probe

import isogloss
from isogloss import tracking
from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ModelError
from isogloss.models.locate import ModelLocation
from isogloss.prompts.wording import wording
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.registry.pyfunc_model import EXAMPLE
from isogloss.serving.adapter_model import (
    QUESTIONS_PER_PASSAGE,
    batches,
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
COLUMNS = ["choice", "answer", "probabilities", "valid", "error"]


@dataclass(frozen=True)
class Trained:
    """An adapter that was logged and evaluated, and the reader that MLflow makes of it."""

    model: Path
    logged: list[Path]  # files, before anything was loaded from there
    reader: Any
    predictions: pd.DataFrame


Training = Callable[..., Trained]


@pytest.fixture(scope="session")
def trained(
    model_folder: Callable[[str], Path], empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Training:
    """A function that gives the adapter trained so; by default in float32."""
    made: dict[tuple[str, str, str], Trained] = {}

    def make(format: Format, prompt_language: PromptLanguage, dtype: str) -> Trained:
        asked = {
            "model": str(model_folder("gemma3")),
            "dtype": dtype,
            "format": format,
            "prompt_language": prompt_language,
        }
        session = Session(asked["model"], dtype)
        tuned = finetune(FinetuneConfig(**asked, **TRAINING), session)
        uri = tuned.data.tags["isogloss.adapter_uri"]
        evaluation = EvaluateConfig(**asked, languages=LANGUAGES, limit=LIMIT)
        with adapter_folder(uri) as folder:
            run = evaluate(evaluation, session, adapter=AdapterRef.in_folder(folder))
        model = Path(mlflow.artifacts.download_artifacts(uri))
        return Trained(
            model,
            [path for path in model.rglob("*") if path.is_file()],
            mlflow.pyfunc.load_model(uri),
            tracking.read_predictions(run.info.run_id),
        )

    def get(
        format: Format, prompt_language: PromptLanguage = "english", dtype: str = "float32"
    ) -> Trained:
        key = (format, prompt_language, dtype)
        if key not in made:
            folder = tmp_path_factory.mktemp("trained")
            shutil.copy(empty_store, folder / "mlflow.db")
            before = mlflow.get_tracking_uri()
            mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
            made[key] = make(format, prompt_language, dtype)
            mlflow.set_tracking_uri(before)
        return made[key]

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
    """Items of all languages, each next to those of the others."""
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
def test_a_batch_of_mixed_languages_is_answered_as_evaluate_answered_item_by_item(
    trained: Training, format: Format, prompt_language: PromptLanguage, dtype: str
) -> None:
    it = trained(format, prompt_language, dtype)
    asked = mixed()
    served = it.reader.predict(pd.DataFrame([row(item) for item in asked]))
    assert list(served.columns) == COLUMNS
    logged = it.predictions.set_index(["language", "item_id"])
    for item, answer in zip(asked, served.itertuples(), strict=True):
        expected = logged.loc[item.language, item.item_id]
        assert answer.choice == expected["prediction"]
        chosen = item.options[answer.choice] if answer.choice >= 0 else None
        assert answer.answer == chosen
        assert answer.valid == expected["valid"]
        assert answer.error is None
        logprobs = expected["choice_logprobs"]
        assert np.log(answer.probabilities) == pytest.approx(
            logprobs - np.logaddexp.reduce(logprobs), abs=1e-5
        )
        assert sum(answer.probabilities) == pytest.approx(1)


def test_options_may_differ_in_number_and_a_row_without_language_has_that_of_training(
    trained: Training,
) -> None:
    reader = trained("letter", "target").reader
    first, second = (row(item) for item in probe("arb_Arab", "test", 2))
    second["options"] = second["options"][:2]
    named = reader.predict(pd.DataFrame([first, second]))
    assert [len(values) for values in named["probabilities"]] == [4, 2]
    for absent in ({}, {"language": None}):
        unnamed = [{**one, **absent} for one in (first, second)]
        if not absent:
            for one in unnamed:
                del one["language"]
        pd.testing.assert_frame_equal(reader.predict(pd.DataFrame(unnamed)), named)
    other = reader.predict(pd.DataFrame([{**first, "language": "eng_Latn"}]))
    assert other["probabilities"][0] != pytest.approx(named["probabilities"][0], abs=1e-5)


def test_what_a_task_says_in_english_is_put_into_the_language_of_the_prompt(
    trained: Training,
) -> None:
    reader = trained("letter", "target").reader
    hebrew = wording("heb_Hebr").texts
    english = {"passage": "שלום", "question": QUESTION, "options": list(TOPICS)}
    translated = {
        "passage": "שלום",
        "question": hebrew[QUESTION],
        "options": [hebrew[topic] for topic in TOPICS],
    }
    rows = [{**texts, "language": "heb_Hebr"} for texts in (english, translated)]
    one, two = reader.predict(pd.DataFrame(rows)).itertuples()
    assert one.probabilities == two.probabilities
    assert (one.answer, two.answer) == (TOPICS[one.choice], translated["options"][one.choice])


BAD = {
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
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_gets_its_error_and_the_others_are_answered_as_without_it(
    trained: Training, kind: str
) -> None:
    reader = trained("letter", "target").reader
    change, message = BAD[kind]
    good = [row(item) for item in mixed()[:3]]
    bad = {**good[0], **change}
    without = reader.predict(pd.DataFrame(good))
    served = reader.predict(pd.DataFrame([bad, good[0], bad, *good[1:]]))
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


def test_all_rows_may_be_bad_or_none_there_and_json_has_null_for_what_is_absent(
    trained: Training,
) -> None:
    reader = trained("cloze").reader
    bad = {**EXAMPLE[0], "options": []}
    served = reader.predict(pd.DataFrame([bad, bad])).to_dict("records")
    assert (
        json.loads(json.dumps(served, allow_nan=False))
        == [
            {
                "choice": -1,
                "answer": None,
                "probabilities": [],
                "valid": False,
                "error": "options must be a list of 2 to 26 texts but has 0.",
            }
        ]
        * 2
    )
    assert list(reader.predict(pd.DataFrame(EXAMPLE).iloc[:0]).columns) == COLUMNS


def test_a_batch_of_any_size_is_answered_in_its_order(
    trained: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = trained("cloze").reader
    rows = [row(item) for item in mixed()]
    whole = reader.predict(pd.DataFrame(rows))
    monkeypatch.setattr("isogloss.serving.adapter_model.ROWS_PER_CALL", 5)
    parts = reader.predict(pd.DataFrame(rows))
    assert list(parts["answer"]) == list(whole["answer"])
    for one, other in zip(parts["probabilities"], whole["probabilities"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_questions_share_their_passage_up_to_a_number_and_only_in_their_language() -> None:
    passages = ["one"] * (QUESTIONS_PER_PASSAGE + 1) + ["two", "", ""]
    items = {
        number: Item(str(number), "", code, passage, "?", ("a", "b"), 0)
        for number, (passage, code) in enumerate(
            (passage, code) for code in ("arb_Arab", "eng_Latn") for passage in passages
        )
    }
    shared = with_shared_passages(items)
    assert [list(it) for it in batches(shared)] == [list(range(20)), list(range(20, 40))]
    for numbers in batches(shared):
        met = Counter(shared[number].passage_id for number in numbers)
        assert sorted(met.values()) == [1, 1, 1, 1, QUESTIONS_PER_PASSAGE]


def test_what_a_task_allows_is_answered(
    trained: Training,
) -> None:
    reader = trained("letter").reader
    changes = (
        {"passage": ""},
        {"options": ["one", "one"]},
        {"options": [f"{number}" for number in range(26)]},
        {"options": np.array(["one", "two"], dtype=object)},
        {"language": "ace_Arab"},
    )
    rows = [{**EXAMPLE[0], **change} for change in changes]
    served = reader.predict(pd.DataFrame(rows))
    assert served["error"].isna().all()
    assert [len(values) for values in served["probabilities"]] == [4, 2, 26, 2, 4]


@pytest.mark.parametrize(("format", "accepted"), [("letter", True), ("generate", False)])
def test_options_beyond_what_the_answer_parser_takes_are_rejected_only_where_text_is_parsed(
    trained: Training, format: Format, accepted: bool
) -> None:
    eleven = {**EXAMPLE[0], "options": [f"{number}" for number in range(11)]}
    served = trained(format).reader.predict(pd.DataFrame([eleven, EXAMPLE[0]]))
    message = None if accepted else "options must be a list of 2 to 10 texts but has 11."
    assert served["error"].tolist() == [message, None]
    assert len(served["probabilities"][1]) == 4


def test_a_column_that_no_row_has_is_refused_by_name(
    trained: Training,
) -> None:
    reader = trained("letter").reader
    with pytest.raises(mlflow.MlflowException, match=r"Model is missing inputs \['question'\]"):
        reader.predict(pd.DataFrame(EXAMPLE).drop(columns="question"))


def test_requests_that_come_at_once_are_answered_as_one_after_another(
    trained: Training,
) -> None:
    reader = trained("cloze").reader
    batches = [pd.DataFrame([row(item)]) for item in mixed()]
    alone = [reader.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(reader.predict, batches))
    for one, other in zip(alone, at_once, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_the_logged_model_is_code_and_safetensors_and_nothing_is_pickled(
    trained: Training,
) -> None:
    paths = trained("letter").logged
    names = [path.name for path in paths]
    assert {"MLmodel", "pyfunc_entry.py", "adapter_model.py", "adapter_model.safetensors"} <= set(
        names
    )
    weights = (".safetensors", ".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib", ".npy", ".npz")
    assert [name for name in names if name.endswith(weights)] == ["adapter_model.safetensors"]
    assert not [name for name in names if name.endswith(".pyc")]
    for path in paths:
        beginning = path.read_bytes()[:4]
        assert not (beginning[:1] == b"\x80" and beginning[1:2] in b"\x01\x02\x03\x04\x05"), path
        assert beginning != b"PK\x03\x04", path


def test_the_logged_code_is_the_package_alone_without_simulations(trained: Training) -> None:
    logged = trained("letter").logged
    code = {path.name for path in logged if path.suffix == ".py"}
    package = {path.name for path in Path(isogloss.__file__).parent.rglob("*.py")}
    assert code == package
    simulations = {path.name for path in SCRIPTS.glob("*.py")} - {"__init__.py"}
    assert {"simulation.py", "calibrate.py"} <= simulations
    assert not code & simulations
    assert not [name for name in code if "simulat" in name]


def test_the_example_is_stored_and_no_model_is_loaded_to_try_it(
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
    assert not [it for it in caplog.records if it.name.startswith("mlflow") and it.levelno > 20]
    folder = Path(mlflow.artifacts.download_artifacts(run.data.tags["isogloss.adapter_uri"]))
    assert json.loads((folder / "serving_input_example.json").read_text()) == {"inputs": EXAMPLE}


STRANGER = """
import importlib.util, json, sys
assert importlib.util.find_spec("isogloss") is None
import mlflow
reader = mlflow.pyfunc.load_model(sys.argv[1])
import isogloss
assert isogloss.__file__.startswith(sys.argv[1]), isogloss.__file__
print(json.dumps(reader.predict(json.load(sys.stdin)).to_dict("records"), allow_nan=False))
"""


@pytest.mark.real
def test_a_process_that_has_never_seen_the_source_loads_it_and_answers_the_same(
    trained: Training, tmp_path: Path
) -> None:
    it = trained("letter", "target")
    rows = [row(item) for item in mixed()]
    rows[2] = {**rows[2], "question": 7}
    (tmp_path / "elsewhere").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", STRANGER, str(it.model)], cwd=tmp_path / "elsewhere",
        env=environment, input=json.dumps(rows), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    expected = it.reader.predict(rows).to_dict("records")
    for theirs, ours in zip(json.loads(result.stdout), expected, strict=True):
        assert theirs.pop("probabilities") == pytest.approx(ours.pop("probabilities"), abs=1e-6)
        assert theirs == ours


def test_the_base_is_looked_for_at_the_revision_that_the_adapter_was_trained_on(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model_folder("gemma3"), tmp_path / "copy")
    revision = Session(str(model_folder("gemma3"))).location.revision
    assert locate_base(str(folder), revision).folder == folder
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"but the adapter was trained on {revision}"):
        locate_base(str(folder), revision)
    asked: list[str] = []

    def locate(name: str) -> ModelLocation:
        asked.append(name)
        return ModelLocation("Qwen/Qwen3-0.6B", tmp_path, "0123abcd")

    monkeypatch.setattr("isogloss.serving.adapter_model.locate", locate)
    locate_base("Qwen/Qwen3-0.6B", "0123abcd")
    assert asked == ["Qwen/Qwen3-0.6B@0123abcd"]
