"""The texts of items in a report are those that were evaluated, or there are none, with a reason."""

import json
import re
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from logged_runs import log_run
from mlflow.entities import Run

from isogloss.analysis.score_matrix import RunKey
from isogloss.config import CompareConfig, EvaluateConfig, as_text
from isogloss.stages.compare import run_compare
from isogloss.stages.item_texts import CHANGED, IMPORTED, item_texts
from isogloss.stages.task_data import evaluation_data
from isogloss.tasks import Item
from isogloss.tracking import data_digest
from isogloss.tracking.comparability import LANGUAGE_DIGEST_LENGTH
from isogloss.types import Condition

pytestmark = pytest.mark.usefixtures("no_figures")

LANGUAGES = ("arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "tur_Latn")
CONFIG = EvaluateConfig(task="probe", languages=LANGUAGES, limit=6, shuffle_options=True, seed=3)
BASE, TUNED = (
    RunKey("m", Condition.BASE),
    RunKey("m", Condition.TUNED, "arb_Arab", "0"),
)


@pytest.fixture(scope="module")
def shown() -> dict[str, list[Item]]:
    """The items of each language as the model sees them: options in the order of the seed."""
    return evaluation_data(CONFIG)[1]


def logged(key: RunKey, shown: dict[str, list[Item]], **tags: str) -> Run:
    """A run of items answered by the first option, with the parameters of its evaluation."""
    table = pd.DataFrame(
        {
            "task": "probe", "format": "cloze", "language": code, "item_id": item.item_id,
            "passage_id": item.passage_id, "answer": item.answer, "forced": 0, "greedy": 0,
            "valid": True, "correct": item.answer == 0 or (key.condition.tuned and place % 2 == 0),
            "choice_logprobs": [-1.0, -2.0, -3.0, -4.0 - key.condition.tuned],
            "gold_logprob": -1.0 - key.condition.tuned,
        }
        for code, items in shown.items()
        for place, item in enumerate(items)
    )  # fmt: skip
    digests = " ".join(
        f"{code}:{data_digest(items)[:LANGUAGE_DIGEST_LENGTH]}" for code, items in shown.items()
    )
    run_id = log_run(key, table, **{"task": "probe", "language_digests": digests, **tags})
    client = mlflow.MlflowClient()
    for name, value in CONFIG.model_dump(mode="json").items():
        client.log_param(run_id, name, as_text(name, value))
    return client.get_run(run_id)


def test_texts_are_those_that_the_model_saw(shown: dict[str, list[Item]]) -> None:
    texts = item_texts([logged(BASE, shown), logged(TUNED, shown)])
    assert texts.missing == ""
    assert {code: list(items.values()) for code, items in texts.by_language.items()} == shown
    as_read = evaluation_data(CONFIG.model_copy(update={"shuffle_options": False}))[1]
    assert shown != as_read


def test_changed_data_and_imports_have_no_texts_but_a_reason(shown: dict[str, list[Item]]) -> None:
    first, *rest = shown["heb_Hebr"]
    other = {**shown, "heb_Hebr": [replace(first, question="another"), *rest]}
    texts = item_texts([logged(BASE, other)])
    assert set(texts.by_language) == set(LANGUAGES) - {"heb_Hebr"}
    assert texts.missing == CHANGED.format(task="probe")
    texts = item_texts([logged(BASE, shown, imported="lm_eval")])
    assert (dict(texts.by_language), texts.missing) == ({}, IMPORTED)


def test_data_that_are_gone_are_named(shown: dict[str, list[Item]], tmp_path: Path) -> None:
    run = logged(BASE, shown)
    run.data.params["task"], run.data.params["data_dir"] = "files", str(tmp_path / "gone")
    texts = item_texts([run])
    assert not texts.by_language
    assert "gone" in texts.missing


def test_data_on_the_hub_are_not_downloaded_again(
    shown: dict[str, list[Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", refuse)
    run = logged(BASE, shown)
    run.data.params["task"] = "sib200"
    texts = item_texts([run])
    assert not texts.by_language
    assert "Davlan/sib200" in texts.missing


def test_the_report_of_a_comparison_holds_the_texts(shown: dict[str, list[Item]]) -> None:
    logged(BASE, shown)
    logged(TUNED, shown)
    run_id = run_compare(CompareConfig())
    page = mlflow.artifacts.load_text(
        f"{mlflow.get_run(run_id).info.artifact_uri}/report/report.html"
    )
    (text,) = re.findall(r'<script type="application/json" id="items-data">(.*?)</script>', page)
    data = json.loads(text)
    assert data["missing"] == ""
    (hebrew,) = (each for each in data["languages"] if each["code"] == "heb_Hebr")
    for (item_id, passage, question, options, answer), item in zip(
        sorted(hebrew["items"]),
        sorted(shown["heb_Hebr"], key=lambda each: each.item_id),
        strict=True,
    ):
        assert (item_id, hebrew["passages"][passage]) == (item.item_id, item.passage)
        assert (question, tuple(options), answer) == (item.question, item.options, item.answer)
