"""Tokenizers and templates that do not fit their model are refused in one sentence, or handled."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from chat_templates import CHATML, LIST_CONTENT
from conftest import probe

from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError
from isogloss.inference.context_window import fit_to_model
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.tokenizers import load_tokenizer
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.stages.session import Session
from isogloss.tasks import open_task


@pytest.fixture
def own_tokenizer(model_folder: Callable[[str], Path]) -> LanguageModel:
    """A tiny model whose tokenizer a test may change."""
    model = load(locate(str(model_folder("llama"))), "float32")
    model.tokenizer = copy.deepcopy(model.tokenizer)
    return model


def test_a_token_without_an_embedding_is_refused_with_the_item_that_has_it(
    own_tokenizer: LanguageModel,
) -> None:
    items = probe("eng_Latn", "test", 3)
    word = items[1].question.split()[-1]
    own_tokenizer.tokenizer.add_tokens([f" {word}"])
    assert len(own_tokenizer.tokenizer) == 513
    with pytest.raises(ModelError) as error:
        fit_to_model(items, own_tokenizer, Protocol("letter"), EvaluateConfig())
    assert "has 512 embeddings, but its tokenizer gives token 512" in str(error.value)
    assert "in eng_Latn" in str(error.value)


def test_tokens_without_an_embedding_that_no_prompt_has_are_no_fault(
    own_tokenizer: LanguageModel,
) -> None:
    items = probe("eng_Latn", "test", 3)
    own_tokenizer.tokenizer.add_tokens(["<image>"])
    fitted = fit_to_model(items, own_tokenizer, Protocol("letter"), EvaluateConfig())
    assert fitted.items == items


@pytest.fixture
def own_folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[[], str]:
    """A function that gives the folder of a tiny model, which a test may change."""

    def folder() -> str:
        path = tmp_path / "model"
        shutil.copytree(model_folder("llama"), path)
        return str(path)

    return folder


def protocol_of(folder: str, chat: str = "auto") -> Protocol:
    """The protocol of an evaluation, as it is known before a run is open."""
    return Session(folder, "float32").protocol(EvaluateConfig(chat=chat), open_task("probe", None))


def with_config(folder: str, **settings: object) -> str:
    path = Path(folder) / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


@pytest.mark.parametrize("chat", ["auto", "on"])
def test_named_templates_without_a_default_are_refused_by_their_names(
    own_folder: Callable[[], str], chat: str
) -> None:
    named = [{"name": name, "template": CHATML} for name in ("tool_use", "rag")]
    folder = with_config(own_folder(), chat_template=named)
    with pytest.raises(ModelError, match=r"templates named 'rag', 'tool_use' and none named"):
        protocol_of(folder, chat)
    assert protocol_of(folder, "off").chat is False


def test_of_named_templates_the_default_is_used(own_folder: Callable[[], str]) -> None:
    named = [{"name": "default", "template": CHATML}, {"name": "rag", "template": "{{ x.y }}"}]
    folder = with_config(own_folder(), chat_template=named)
    protocol = protocol_of(folder)
    tokenizer = load_tokenizer(locate(folder))
    item = probe("eng_Latn", "test", 1)[0]
    assert prompt(item, protocol, tokenizer).context.endswith("<|im_start|>assistant\n")


RAISING = {
    "its own words": ("{{ raise_exception('Only with tools') }}", "(Only with tools)"),
    "syntax": ("{% for m in messages %}", "Unexpected end of template"),
    "undefined": ("{{ messages[7].content.strip() }}", "has no element 7"),
    "types": ("{{ 1 + messages[0].content }}", "unsupported operand"),
    "numbers": ("{{ 1 // 0 }}", "zero"),
}


@pytest.mark.parametrize("case", RAISING)
def test_a_template_that_raises_is_refused_with_its_reason(
    own_folder: Callable[[], str], case: str
) -> None:
    template, reason = RAISING[case]
    folder = own_folder()
    (Path(folder) / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError) as error:
        protocol_of(folder)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; set chat=off to use no template.")


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_the_template_of_a_processor_is_used(own_folder: Callable[[], str], name: str) -> None:
    folder = own_folder()
    (Path(folder) / name).write_text(json.dumps({"chat_template": LIST_CONTENT}))
    protocol = protocol_of(folder)
    assert protocol.chat
    model = load(locate(folder), "float32")
    item = probe("eng_Latn", "test", 1)[0]
    context = prompt(item, protocol, model.tokenizer).context
    assert context == f"<|user|>{prompt(item, Protocol(protocol.format)).context}<end><|assistant|>"


def test_a_damaged_file_with_a_template_is_refused(own_folder: Callable[[], str]) -> None:
    folder = own_folder()
    (Path(folder) / "chat_template.json").write_text("{")
    with pytest.raises(ModelError, match=r"chat_template\.json is not valid JSON"):
        protocol_of(folder)


def test_a_template_that_cannot_be_used_opens_no_run(own_folder: Callable[[], str]) -> None:
    folder = own_folder()
    (Path(folder) / "chat_template.jinja").write_text("<assistant>")
    config = EvaluateConfig(model=folder, dtype="float32", languages=("eng_Latn",), limit=2)
    with pytest.raises(ModelError, match="leaves out or changes the user's text"):
        run_evaluate(config)
    assert mlflow.search_runs(search_all_experiments=True).empty
