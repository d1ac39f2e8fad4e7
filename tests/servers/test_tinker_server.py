"""Answers of Tinker's SDK against a tiny model, asked over loopback."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import transformers

pytest.importorskip("tinker", reason="tinker is not installed: pip install -r requirements-dev.txt")
from tinker_service import KEY, TinkerService, tinker_serving

from isogloss.errors import ConfigError, ModelError
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers.opening import open_server
from isogloss.servers.tinker import TinkerServer
from isogloss.servers.types import Failure, ServedAdapter
from isogloss.servers.wire import Context

# The SDK leaves the connections of its first request of each client open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
CONTEXT = tuple(range(5, 25))
PROMPT = Prompt("", ("", "", ""))


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    yield
    gc.collect()  # here, and not in a test of something else


@pytest.fixture
def folder(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("llama")


@pytest.fixture
def service(folder: Path) -> Iterator[TinkerService]:
    with tinker_serving(folder) as service:
        yield service


def logprobs(folder: Path, tokens: tuple[int, ...]) -> torch.Tensor:
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        return network(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)


def server(service: TinkerService, **values: object) -> TinkerServer:
    opened = open_server(service.engine(**values))
    assert isinstance(opened, TinkerServer)
    return opened


def test_labels_of_a_token_are_scored_by_one_request(folder: Path, service: TinkerService) -> None:
    last = logprobs(folder, CONTEXT)[-1]
    likeliest = int(last.argmax())
    labels = (7, 300, likeliest)
    entry = EncodedPrompt(tuple((*CONTEXT, label) for label in labels), (len(CONTEXT),) * 3)
    asked = server(service)
    ((index, scores),) = asked.score([entry], [PROMPT], labels=True)
    assert index == 0
    assert list(scores.loglikelihoods) == pytest.approx([float(last[label]) for label in labels])
    assert scores.greedy == 2
    assert not scores.bounded
    assert service.seen["asample"] == asked.usage.requests == 1
    assert asked.usage.prompt_tokens == len(CONTEXT) + 1
    assert asked.facts.context_length == 4096


def test_options_are_scored_token_by_token(folder: Path, service: TinkerService) -> None:
    greedy = list(CONTEXT)
    for _ in range(3):
        greedy.append(int(logprobs(folder, tuple(greedy))[-1].argmax()))
    options = ((*CONTEXT, 9, 11), tuple(greedy), tuple(greedy[:-1]))
    entry = EncodedPrompt(options, (len(CONTEXT),) * 3)
    ((_, scores),) = server(service).score([entry], [PROMPT], labels=False)
    expected = []
    for sequence in options:
        values = logprobs(folder, sequence)
        expected.append(
            sum(float(values[at - 1, sequence[at]]) for at in range(len(CONTEXT), len(sequence)))
        )
    assert list(scores.loglikelihoods) == pytest.approx(expected, abs=1e-5)
    assert scores.greedy == 1  # of two that greedy decoding gives, the longer
    assert service.seen["asample"] == 3


def test_texts_are_greedy_and_come_as_tokens(folder: Path, service: TinkerService) -> None:
    greedy = list(CONTEXT)
    for _ in range(4):
        greedy.append(int(logprobs(folder, tuple(greedy))[-1].argmax()))
    asked = server(service, concurrency=2)
    contexts = [Context(CONTEXT, ""), Context(CONTEXT[:5], ""), Context(CONTEXT, "")]
    texts = dict(asked.generate(contexts, 4))
    assert texts[0] == texts[2]
    assert list(texts[0].ids) == greedy[len(CONTEXT) :]
    assert texts[0].ended == (1 in greedy)
    assert asked.usage.generated_tokens == sum(len(text.ids) for text in texts.values())


def test_a_prompt_that_is_refused_is_a_failure_and_the_others_go_on(
    folder: Path, service: TinkerService
) -> None:
    service.refuses = lambda path, count: (
        "this prompt is refused" if path == "asample" and count == 2 else None
    )
    asked = server(service, concurrency=1)
    texts = dict(asked.generate([Context(CONTEXT, "")] * 3, 2))
    assert isinstance(texts[1], Failure)
    assert "this prompt is refused" in texts[1].reason
    assert texts[0] == texts[2]


def test_a_service_that_refuses_all_ends_the_evaluation(service: TinkerService) -> None:
    service.refuses = lambda path, count: 403 if path == "asample" else None
    asked = server(service)
    with pytest.raises(ModelError, match="status 403: the environment variable TINKER_API_KEY has"):
        list(asked.generate([Context(CONTEXT, "")] * 3, 2))


def test_keys_and_names_that_the_service_does_not_know_are_refused(
    service: TinkerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError) as unknown:
        server(service, name="tiny/other")
    assert str(unknown.value) == (
        "Tinker has no model 'tiny/other'; expected engine.name, or model, to be one of "
        "'other/model', 'tiny/base'."
    )
    with pytest.raises(
        ModelError, match=r"engine.adapter is 'own'; expected a path of Tinker such"
    ):
        open_server(service.engine(), ServedAdapter("0" * 64, None, "own"))
    monkeypatch.setenv("TINKER_API_KEY", "tml-wrong-key")
    with pytest.raises(ModelError) as wrong:  # the service repeats the key in its answer
        server(service)
    assert str(wrong.value) == (
        "Tinker gives no answer: status 401: the environment variable TINKER_API_KEY has a key "
        "that it does not accept."
    )
    monkeypatch.setenv("TINKER_API_KEY", "sk-of-another-service")
    with pytest.raises(ModelError, match="must start with the 'tml-' prefix") as other:
        server(service)
    assert "another" not in str(other.value)
    monkeypatch.delenv("TINKER_API_KEY")
    with pytest.raises(ConfigError, match="the environment variable TINKER_API_KEY has no key"):
        server(service)
