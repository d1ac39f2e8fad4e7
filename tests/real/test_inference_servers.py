"""Real inference servers with the embedded model, beside the model in this process.

llama.cpp's own server has the weights that are dequantised to float32 here; with those of the GGUF
file, its kernels multiply them with activations of eight bits, so that scores differ.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import probe
from fault_proxy import Fault, fault_proxy

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.inference.scoring import ItemScores, score
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.prompts.tokenisation import EncodedPrompt, decoded, encode, hidden_tokens
from isogloss.servers.opening import found_kind, open_server
from isogloss.servers.probe import probe as probe_server
from isogloss.servers.probe import refusal
from isogloss.servers.types import Scores, ServedText
from isogloss.servers.wire import Context
from isogloss.types import EngineKind, Format
from real.processes import free_port, running

pytestmark = pytest.mark.real
LANGUAGES = ("eng_Latn", "arb_Arab", "mlt_Latn", "swh_Latn")
PER_LANGUAGE = 3


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], int, Path]:
    """The command of llama.cpp's server with the embedded model, its port and its log."""
    port = free_port()
    command = [sys.executable, "-m", "scripts.llama_server", "embedded", "--float32"]
    log = tmp_path_factory.mktemp("llama_cpp") / "log.txt"
    return [*command, "--threads", "1", "--port", str(port)], port, log


@pytest.fixture(scope="module")
def llama_cpp(llama_server: tuple[list[str], int, Path]) -> Iterator[str]:
    command, port, log = llama_server
    with running(command, port, log):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def embedded() -> LanguageModel:
    return load(locate("embedded"), "float32")


Prompts = tuple[list[EncodedPrompt], list[Prompt], list[ItemScores]]


@pytest.fixture(scope="module")
def letters(embedded: LanguageModel) -> Prompts:
    """Prompts by letter in four languages, and their scores in this process."""
    items = [item for code in LANGUAGES for item in probe(code, "test", PER_LANGUAGE)]
    prompts = [prompt(item, Protocol(), embedded.tokenizer) for item in items]
    encoded = encode(embedded.tokenizer, prompts)
    return encoded, prompts, score(embedded, encoded, items, True, float32_head=True)


def differences(scores: dict[int, object], own: list[ItemScores]) -> np.ndarray:
    """Log-likelihood of the server minus that of this process, by item and choice."""
    assert sorted(scores) == list(range(len(own)))
    served = [scores[index] for index in range(len(own))]
    assert all(isinstance(entry, Scores) and not entry.bounded for entry in served)
    return np.array([entry.loglikelihoods for entry in served]) - np.array(
        [entry.loglikelihoods for entry in own]
    )


def test_llama_cpp_gives_the_letters_of_this_process(llama_cpp: str, letters: Prompts):
    encoded, prompts, own = letters
    assert found_kind(llama_cpp) == EngineKind.LLAMA_CPP
    server = open_server(Engine(kind=EngineKind.LLAMA_CPP, base_url=llama_cpp, concurrency=2))
    assert server.facts.context_length == 2048
    findings = probe_server(server, encoded[0], prompts[0])
    assert refusal(findings) is None, findings
    difference = differences(dict(server.score(encoded, prompts, labels=True)), own)
    # Relative to the mean of an item: what all choices share changes no prediction.
    centred = difference - difference.mean(axis=1, keepdims=True)
    rms = float(np.sqrt((centred**2).mean()))
    print(f"root mean square {rms:.3f} nats, largest {np.abs(centred).max():.3f}")
    assert rms < 0.01
    own_scores = np.array([entry.loglikelihoods for entry in own])
    served_scores = own_scores + difference
    ranked = np.sort(own_scores, axis=1)
    # Two letters differ by the errors of both.
    clear = ranked[:, -1] - ranked[:, -2] > 4 * rms
    print(f"margin above {4 * rms:.3f} for {clear.sum()} of {len(clear)}")
    assert clear.any()
    assert (own_scores.argmax(1) == served_scores.argmax(1))[clear].all()


def test_llama_cpp_as_openai_gives_the_same_letters(llama_cpp: str, letters: Prompts):
    encoded, prompts, _ = letters
    engines = [
        Engine(kind=kind, base_url=llama_cpp, concurrency=1)
        for kind in (EngineKind.LLAMA_CPP, EngineKind.OPENAI)
    ]
    native, text = (
        dict(open_server(engine).score(encoded[:4], prompts[:4], labels=True)) for engine in engines
    )
    for index, scores in text.items():
        assert isinstance(scores, Scores), scores
        exact = native[index]
        assert scores.prompt_tokens == exact.prompt_tokens
        # Those outside the first twenty are bounds. A prompt that is partly in the server's cache,
        # as is the default, passes other kernels: see servers/llama_cpp.py.
        for value, at_most in zip(exact.loglikelihoods, scores.loglikelihoods, strict=True):
            assert value <= at_most + 0.05
            assert scores.bounded or value == pytest.approx(at_most, abs=0.05)


def test_llama_cpp_refuses_options_with_the_reason(llama_cpp: str, embedded: LanguageModel):
    cloze = Protocol(Format.CLOZE)
    prompts = [prompt(probe("eng_Latn", "test", 1)[0], cloze, embedded.tokenizer)]
    server = open_server(Engine(kind=EngineKind.LLAMA_CPP, base_url=llama_cpp))
    with pytest.raises(ModelError, match=r"tells no log-probabilities of a given text"):
        server.score(encode(embedded.tokenizer, prompts), prompts, labels=False)


def test_llama_cpp_generates_text_with_its_ids(
    llama_cpp: str, letters: Prompts, embedded: LanguageModel
):
    encoded, prompts, _ = letters
    contexts = [
        Context(entry.sequences[0][: entry.starts[0]], text.context)
        for entry, text in zip(encoded[:2], prompts[:2], strict=True)
    ]
    server = open_server(Engine(kind=EngineKind.LLAMA_CPP, base_url=llama_cpp))
    results = dict(server.generate(contexts, 6))
    hidden = hidden_tokens(embedded.tokenizer)
    for result in (results[0], results[1]):
        assert isinstance(result, ServedText)
        assert result.ids is not None
        assert decoded(embedded.tokenizer, [result.ids], hidden) == [result.text]
        assert result.ended or len(result.ids) == 6


def test_no_item_is_lost_when_llama_cpp_is_killed_and_started_again(
    llama_server: tuple[list[str], int, Path], letters: Prompts
):
    command, _, log = llama_server
    port = free_port()
    command = [*command]
    command[command.index("--port") + 1] = str(port)
    encoded, prompts, own = letters
    faults = [fault for fault in Fault if fault != Fault.SLOW]
    with fault_proxy(f"http://127.0.0.1:{port}", [None] * 3 + [*faults, None] * 2) as proxy:
        engine = Engine(kind=EngineKind.LLAMA_CPP, base_url=proxy.url, concurrency=2, retries=15)
        with running(command, port, log) as pid:
            server = open_server(engine)
            results = server.score(encoded, prompts, labels=True)
            scores = [next(results) for _ in range(5)]
            os.kill(pid, 9)
        with running(command, port, log):
            scores += results
    print(f"injected {dict(proxy.injected)} and a kill -9; lost {len(own) - len(scores)}")
    assert len(scores) == len(own)
    differences(dict(scores), own)
    assert server.usage.retries >= len(faults)


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    folder = str(locate("embedded").folder)
    command = [str(program), "serve", folder, "--host", "127.0.0.1", "--port", str(port)]
    with running([*command, "--dtype", "float32"], port, tmp_path_factory.mktemp("serve") / "log"):
        yield f"http://127.0.0.1:{port}/v1"


def test_transformers_serve_generates_but_tells_no_log_probabilities(
    transformers_serve: str, letters: Prompts
):
    encoded, prompts, _ = letters
    engine = Engine(
        kind=EngineKind.OPENAI, base_url=transformers_serve, name=str(locate("embedded").folder)
    )
    server = open_server(engine)
    assert server.facts.top == 0
    with pytest.raises(ModelError, match="tells no log-probabilities"):
        server.score(encoded, prompts, labels=True)
    context = Context(encoded[0].sequences[0][: encoded[0].starts[0]], prompts[0].context)
    ((_, result),) = server.generate([context], 4)
    assert isinstance(result, ServedText), result
    assert result.text
