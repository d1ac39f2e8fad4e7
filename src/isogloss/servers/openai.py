"""OpenAI's wire formats: completions of a text, and chats, by any server that imitates them.

Source: platform.openai.com/docs/api-reference, "Completions (Legacy)" and "Chat". Tokens come back
as text. A completion is told by " A", as the prompt ends in "Answer:"; in a chat, the server wraps
the prompt in its own template, and the label begins the assistant's turn: "A". Neither tells
log-probabilities of a given text: `echo` with `logprobs` is refused by OpenAI since 2023 and
ignored by others.
"""

from collections.abc import Sequence

from pydantic import BaseModel, FiniteFloat, NonNegativeInt

from isogloss.servers.types import ServedText
from isogloss.servers.wire import (
    Call,
    Context,
    Counted,
    Generation,
    NextToken,
    NoLogprobsError,
    Target,
    Wire,
    read,
)

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
SPACES = str.maketrans({"▁": " ", "Ġ": " "})  # how some servers write a space in a token
NO_GIVEN_TEXT = (
    "an OpenAI-compatible server tells no log-probabilities of a given text, so that it cannot "
    "score options; expected format=letter or format=generate, or engine.kind vllm or sglang."
)


class _Usage(BaseModel):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt = 0

    @property
    def counted(self) -> Counted:
        return Counted(self.prompt_tokens, self.completion_tokens)


class _Logprobs(BaseModel):
    tokens: list[str]
    top_logprobs: list[dict[str, FiniteFloat]]


class _Top(BaseModel):
    token: str
    logprob: FiniteFloat


class _Position(_Top):
    top_logprobs: list[_Top]


class _ChatLogprobs(BaseModel):
    content: list[_Position] | None


class _Choice(BaseModel):
    """A completion; llama.cpp's has the log-probabilities of a chat."""

    text: str
    finish_reason: str | None = None
    logprobs: _Logprobs | _ChatLogprobs | None = None


class _Completion(BaseModel):
    choices: tuple[_Choice]
    usage: _Usage


class Message(BaseModel):
    """An assistant's turn; servers that part its reasoning from it use either of two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _ChatChoice(BaseModel):
    message: Message
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None


class _Chat(BaseModel):
    choices: tuple[_ChatChoice]
    usage: _Usage


def _body(target: Target, max_new_tokens: int) -> dict[str, object]:
    """The fields that both endpoints have, without parameters that OpenAI does not have."""
    name = target.adapter or target.name
    return {"model": name, "max_tokens": max_new_tokens, "temperature": 0}


def _next_token(target: Target, context: Context, wanted: Sequence[int]) -> Call:
    asked = {"prompt": context.text, "logprobs": target.facts.top}
    return Call(COMPLETIONS, _body(target, 1) | asked)


def _read_next(answer: bytes) -> NextToken:
    completion = read(answer, _Completion)
    logprobs = completion.choices[0].logprobs
    if isinstance(logprobs, _ChatLogprobs):
        return _first_of(logprobs, completion.usage)
    if logprobs is None or not logprobs.tokens or not logprobs.top_logprobs:
        raise NoLogprobsError
    values: dict[int | str, float] = {
        token.translate(SPACES): value for token, value in logprobs.top_logprobs[0].items()
    }
    return NextToken(values, logprobs.tokens[0].translate(SPACES), completion.usage.counted)


def _generate(target: Target, context: Context, max_new_tokens: int) -> Call:
    return Call(COMPLETIONS, _body(target, max_new_tokens) | {"prompt": context.text})


def _read_generated(answer: bytes) -> Generation:
    completion = read(answer, _Completion)
    choice = completion.choices[0]
    served = ServedText(choice.text, _ended(choice.finish_reason))
    return Generation(served, completion.usage.counted)


def _messages(context: Context) -> list[dict[str, str]]:
    return [{"role": "user", "content": context.text}]


def _next_in_chat(target: Target, context: Context, wanted: Sequence[int]) -> Call:
    asked = {"messages": _messages(context), "logprobs": True, "top_logprobs": target.facts.top}
    return Call(CHAT, _body(target, 1) | asked)


def _read_next_in_chat(answer: bytes) -> NextToken:
    chat = read(answer, _Chat)
    return _first_of(chat.choices[0].logprobs, chat.usage)


def _first_of(logprobs: _ChatLogprobs | None, usage: _Usage) -> NextToken:
    """The log-probabilities of the first of several tokens."""
    if logprobs is None or not logprobs.content:
        raise NoLogprobsError
    first = logprobs.content[0]
    values: dict[int | str, float] = {
        top.token.translate(SPACES): top.logprob for top in first.top_logprobs
    }
    return NextToken(values, first.token.translate(SPACES), usage.counted)


def _generate_in_chat(target: Target, context: Context, max_new_tokens: int) -> Call:
    return Call(CHAT, _body(target, max_new_tokens) | {"messages": _messages(context)})


def _read_generated_in_chat(answer: bytes) -> Generation:
    chat = read(answer, _Chat)
    choice = chat.choices[0]
    served = ServedText(choice.message.content or "", _ended(choice.finish_reason))
    return Generation(served, chat.usage.counted)


def _ended(reason: str | None) -> bool:
    """Whether a text ended before the limit. Raises ValueError for any other reason to end."""
    if reason not in ("stop", "length"):
        raise ValueError(f"generation ended with {reason!r}")
    return reason == "stop"


def read_message(answer: bytes) -> Message:
    """Return the assistant's turn of a chat."""
    return read(answer, _Chat).choices[0].message


OPENAI_COMPLETIONS = Wire(
    next_token=_next_token,
    read_next=_read_next,
    generate=_generate,
    read_generated=_read_generated,
    no_given_text=NO_GIVEN_TEXT,
)
OPENAI_CHAT = Wire(
    next_token=_next_in_chat,
    read_next=_read_next_in_chat,
    generate=_generate_in_chat,
    read_generated=_read_generated_in_chat,
    no_given_text=NO_GIVEN_TEXT,
)
