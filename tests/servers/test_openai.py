"""OpenAI's wire formats, with answers in the shapes of its documentation and of its imitators."""

import json

import pytest

from isogloss.servers.openai import OPENAI_CHAT, OPENAI_COMPLETIONS, read_message
from isogloss.servers.types import PromptsAs, ServerFacts
from isogloss.servers.wire import Context, NoLogprobsError, Target
from isogloss.types import EngineKind

FACTS = ServerFacts(
    EngineKind.OPENAI, None, {"gpt": None}, ("gpt",), None, PromptsAs.TEXT, 5, False
)
USAGE = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
CONTEXT = Context([2, 7], "Q: 1?\nAnswer:")


def as_bytes(choice: dict) -> bytes:
    return json.dumps({"choices": [choice], "usage": USAGE}).encode()


def test_a_completion_is_asked_as_text_and_read_by_text():
    call = OPENAI_COMPLETIONS.next_token(Target(FACTS, "gpt"), CONTEXT, [9])
    assert (call.path, call.body) == (
        "/v1/completions",
        {
            "model": "gpt",
            "prompt": "Q: 1?\nAnswer:",
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 5,
        },
    )
    logprobs = {
        "tokens": ["ĠA"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"ĠA": -0.5, "▁B": -1.5, " C": -2.5}],
    }
    answer = OPENAI_COMPLETIONS.read_next(as_bytes({"text": " A", "logprobs": logprobs}))
    assert answer == ({" A": -0.5, " B": -1.5, " C": -2.5}, " A", (40, 1))


def test_llama_cpp_tells_completions_as_chats():
    top = [{"token": " A", "logprob": -0.5}, {"token": " B", "logprob": -1.0}]
    logprobs = {"content": [{**top[0], "id": 3, "bytes": [32], "top_logprobs": top}]}
    answer = OPENAI_COMPLETIONS.read_next(as_bytes({"text": " A", "logprobs": logprobs}))
    assert answer == ({" A": -0.5, " B": -1.0}, " A", (40, 1))


def test_a_chat_is_one_message_and_read_by_text():
    call = OPENAI_CHAT.next_token(Target(FACTS, "gpt"), CONTEXT, [9])
    assert call.path == "/v1/chat/completions"
    assert call.body is not None
    assert call.body["messages"] == [{"role": "user", "content": CONTEXT.text}]
    assert (call.body["logprobs"], call.body["top_logprobs"]) == (True, 5)
    top = [{"token": "A", "logprob": -0.25, "bytes": [65]}]
    choice = {
        "message": {"role": "assistant", "content": "A"},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
        "finish_reason": "length",
    }
    assert OPENAI_CHAT.read_next(as_bytes(choice)) == ({"A": -0.25}, "A", (40, 1))
    assert OPENAI_CHAT.read_generated(as_bytes(choice)).served == ("A", False, None)


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}])
def test_an_answer_without_log_probabilities_is_told_from_a_broken_one(logprobs: object):
    choice = {"text": "A", "message": {"content": "A"}, "logprobs": logprobs}
    for wire in (OPENAI_CHAT, OPENAI_COMPLETIONS):
        with pytest.raises(NoLogprobsError):
            wire.read_next(as_bytes(choice))
    with pytest.raises(ValueError, match="message"):
        OPENAI_CHAT.read_next(b'{"choices": [{}], "usage": {"prompt_tokens": 1}}')


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_apart_from_the_content_is_seen(name: str):
    message = read_message(as_bytes({"message": {"content": None, name: "Let me see"}}))
    assert message.reasoning_content or message.reasoning


def test_an_end_that_is_no_end_is_no_answer():
    with pytest.raises(ValueError, match="content_filter"):
        OPENAI_COMPLETIONS.read_generated(as_bytes({"text": "", "finish_reason": "content_filter"}))
