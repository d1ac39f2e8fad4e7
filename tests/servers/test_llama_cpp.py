"""llama.cpp's wire format, with an answer of its server (July 2026) as it came over the wire."""

import json

import pytest

from isogloss.servers.llama_cpp import LLAMA_CPP
from isogloss.servers.types import PromptsAs, ServerFacts
from isogloss.servers.wire import Context, Target
from isogloss.types import EngineKind

ADAPTERS = {"model.gguf": "model.gguf", "/a/one.gguf": "/a/one.gguf", "/a/two.gguf": "/a/two.gguf"}
FACTS = ServerFacts(
    EngineKind.LLAMA_CPP, "b1", ADAPTERS, ("model.gguf",), 2048, PromptsAs.IDS, 1000, False
)
ANSWER = {
    "content": "!",
    "tokens": [236888],
    "tokens_predicted": 1,
    "tokens_evaluated": 3,
    "truncated": False,
    "stop_type": "limit",
    "completion_probabilities": [
        {
            "id": 236888,
            "token": "!",
            "bytes": [33],
            "logprob": -0.84,
            "top_logprobs": [
                {"id": 236888, "token": "!", "bytes": [33], "logprob": -0.84},
                {"id": 236764, "token": ",", "bytes": [44], "logprob": -1.58},
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("adapter", "scales"),
    [(None, [0.0, 0.0]), ("/a/one.gguf", [1.0, 0.0]), ("/a/two.gguf", [0.0, 1.0])],
)
def test_every_request_says_which_adapter_applies(adapter: str | None, scales: list[float]):
    """Without a list, the server would apply all adapters that it was started with."""
    call = LLAMA_CPP.next_token(Target(FACTS, "model.gguf", adapter), Context([2, 9], "x"), [5])
    assert call.path == "/completion"
    assert call.body is not None
    assert call.body["lora"] == [{"id": at, "scale": scale} for at, scale in enumerate(scales)]
    expected = {"prompt": [2, 9], "n_predict": 1, "n_probs": 1000, "post_sampling_probs": False}
    assert {name: call.body[name] for name in expected} == expected


def test_letters_are_read_by_token_id():
    answer = LLAMA_CPP.read_next(json.dumps(ANSWER).encode())
    assert answer == ({236888: -0.84, 236764: -1.58}, 236888, (3, 1))


def test_a_cut_prompt_or_an_answer_without_probabilities_is_no_answer():
    for change in ({"truncated": True}, {"completion_probabilities": []}):
        with pytest.raises(ValueError, match=r".+"):
            LLAMA_CPP.read_next(json.dumps(ANSWER | change).encode())


@pytest.mark.parametrize(("stop", "ended"), [("eos", True), ("word", True), ("limit", False)])
def test_generated_text_ends_by_itself_or_at_the_limit(stop: str, ended: bool):
    generation = LLAMA_CPP.read_generated(json.dumps(ANSWER | {"stop_type": stop}).encode())
    assert generation.served == ("!", ended, (236888,))
