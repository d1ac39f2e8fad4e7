"""vLLM's wire format, with answers of vLLM 0.32.0 as they came over the wire."""

import json

import pytest

from isogloss.servers.types import PromptsAs, ServerFacts
from isogloss.servers.vllm import VLLM
from isogloss.servers.wire import Context, Target
from isogloss.types import EngineKind

FACTS = ServerFacts(
    EngineKind.VLLM,
    "0.32.0",
    {"base": None, "tuned": None},
    ("base",),
    2048,
    PromptsAs.IDS,
    20,
    True,
)
LETTERS = {
    "choices": [
        {
            "index": 0,
            "text": "\n",
            "logprobs": {
                "text_offset": [0],
                "token_logprobs": [-0.5],
                "tokens": ["token_id:107"],
                "top_logprobs": [
                    {"token_id:107": -0.5, "token_id:562": -2.5, "token_id:603": -3.25}
                ],
            },
            "finish_reason": "length",
        }
    ],
    "usage": {"prompt_tokens": 40, "total_tokens": 41, "completion_tokens": 1},
}


def as_bytes(answer: object) -> bytes:
    return json.dumps(answer).encode()


def test_letters_are_asked_by_token_id_without_sampling():
    call = VLLM.next_token(Target(FACTS, "base", "tuned"), Context([2, 7, 9], "text"), [562, 603])
    assert call.path == "/v1/completions"
    assert call.body is not None
    expected = {
        "model": "tuned",
        "prompt": [2, 7, 9],
        "max_tokens": 1,
        "temperature": 0,
        "repetition_penalty": 1,
        "logprobs": 20,
        "logprob_token_ids": [562, 603],
        "return_tokens_as_token_ids": True,
    }
    assert {name: call.body[name] for name in expected} == expected


def test_letters_are_read_with_the_token_that_greedy_decoding_gives():
    answer = VLLM.read_next(as_bytes(LETTERS))
    assert answer.logprobs == {107: -0.5, 562: -2.5, 603: -3.25}
    assert answer.greedy == 107
    assert answer.counted == (40, 1)


def test_an_option_is_the_sum_of_its_tokens_and_greedy_if_all_are_most_likely():
    entry = {"decoded_token": "x", "rank": 1}
    positions = [
        None,
        {"5": {**entry, "logprob": -9.0}, "1": {**entry, "logprob": -0.1}},
        {"6": {**entry, "logprob": -0.25}},
        {"7": {**entry, "logprob": -1.5}, "8": {**entry, "logprob": -0.5}},
    ]
    usage = {"prompt_tokens": 4, "completion_tokens": 1}
    answer = as_bytes(
        {"choices": [{"index": 0, "text": "", "prompt_logprobs": positions}], "usage": usage}
    )
    assert VLLM.given_text is not None
    assert VLLM.given_text.read(answer, [2, 5, 6, 7], 2) == (-1.75, False, (4, 1))
    assert VLLM.given_text.read(answer, [2, 5, 6, 8], 2) == (-0.75, True, (4, 1))
    with pytest.raises(ValueError, match="no log-probability of token 9"):
        VLLM.given_text.read(answer, [2, 5, 6, 9], 2)


@pytest.mark.parametrize(
    "change",
    [
        {"choices": []},
        {"usage": {}},
        {"choices": [{**LETTERS["choices"][0], "logprobs": None}]},
        {
            "choices": [
                {
                    "text": "",
                    "logprobs": {
                        "tokens": ["A"],
                        "token_logprobs": [-1.0],
                        "top_logprobs": [{"A": -1.0}],
                    },
                }
            ]
        },
    ],
)
def test_another_shape_is_no_answer(change: dict):
    with pytest.raises(ValueError, match=r".+"):
        VLLM.read_next(as_bytes(LETTERS | change))


def test_nan_is_no_log_probability():
    answer = as_bytes(LETTERS).replace(b"-2.5", b"NaN")
    with pytest.raises(ValueError, match="finite"):
        VLLM.read_next(answer)


def test_generated_text_comes_with_its_ids_and_whether_it_ended():
    for reason, ended in (("stop", True), ("length", False)):
        choice = {"index": 0, "text": " 10", "finish_reason": reason, "token_ids": [4, 5, 6]}
        answer = as_bytes(
            {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
        )
        generation = VLLM.read_generated(answer)
        assert generation.served == (" 10", ended, (4, 5, 6))
        assert generation.counted == (9, 3)
