"""Prompts in another language translate what is the task's own English, and no data."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import pytest

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.languages import table
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.serving.adapter_model import AdapterModel
from isogloss.stages.task_data import evaluation_data
from isogloss.stages.training_inputs import source_data
from isogloss.tasks import TASKS, open_task
from isogloss.types import PromptLanguage

OPTIONS = ("sports", "religion", "health")
QUESTION = "What is the topic of this text?"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for code in ("fra_Latn", "deu_Latn"):
        rows = [
            {"passage": f"{code} {number}", "question": QUESTION, "options": OPTIONS, "answer": 2}
            for number in range(60)
        ]
        (tmp_path / f"{code}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_options_of_own_data_are_shown_as_they_are(data: Path) -> None:
    shared = {"task": "files", "data_dir": str(data), "source": "fra_Latn"}
    shared |= {"prompt_language": "target"}
    _, evaluated = evaluation_data(EvaluateConfig.model_validate(shared))
    _, trained, dev = source_data(FinetuneConfig.model_validate(shared))
    for item in (*evaluated["fra_Latn"], *evaluated["deu_Latn"], *trained, *dev):
        assert (item.options, item.question) == (OPTIONS, QUESTION)


@pytest.mark.parametrize("own_texts", [True, False])
def test_a_served_row_is_asked_as_its_task_was(
    own_texts: bool, model_folder: Callable[[str], Path]
) -> None:
    protocol = Protocol(prompt_language=PromptLanguage.TARGET)
    model = load(locate(str(model_folder("llama"))), "float32")
    served = AdapterModel(model, "", protocol, "fra_Latn", 4096, Lock(), own_texts)
    item = served._item(0, {"passage": "Le match.", "question": QUESTION, "options": OPTIONS})
    assert ("sport" in item.options) is own_texts
    assert ("Quel est le sujet" in prompt(item, protocol).context) is own_texts
    assert "Texte: Le match." in prompt(item, protocol).context


def test_tasks_of_the_hub_with_fixed_words_have_texts_of_their_own(
    data: Path, tmp_path: Path
) -> None:
    for code in table():
        (tmp_path / "sib200" / code).mkdir(parents=True)
        (tmp_path / "sib200" / code / "test.tsv").touch()
    assert open_task("sib200", str(tmp_path / "sib200")).own_texts
    (tmp_path / "afrixnli" / "swa").mkdir(parents=True)
    for split in ("dev", "test"):
        (tmp_path / "afrixnli" / "swa" / f"{split}.tsv").touch()
    assert open_task("afrixnli", str(tmp_path / "afrixnli")).own_texts
    assert set(TASKS) == {
        *("probe", "sib200", "belebele", "files", "global_mmlu", "afrixnli"),
        *("global_piqa_parallel", "global_piqa_nonparallel"),
    }
    assert not open_task("probe", None).own_texts
    assert not open_task("files", str(data)).own_texts
