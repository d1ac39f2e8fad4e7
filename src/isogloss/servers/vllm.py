"""vLLM's wire format: its OpenAI-compatible completions, with token ids as the prompt.

Source: `CompletionRequest` and `CompletionResponse` in vllm/entrypoints/openai/completion, 0.32.0.
`logprob_token_ids` exists since July 2026 (vllm-project/vllm #43463); an older server ignores it
and returns the most likely tokens. Log-probabilities are of raw logits, before temperature and
penalties, unless the server was started with another `--logprobs-mode`.
"""

from collections.abc import Sequence

from pydantic import BaseModel, FiniteFloat, NonNegativeInt

from isogloss.servers.types import ServedText
from isogloss.servers.wire import (
    Call,
    Context,
    Continuation,
    Counted,
    Generation,
    GivenText,
    NextToken,
    NoLogprobsError,
    Target,
    Wire,
    read,
)

COMPLETIONS = "/v1/completions"
TOKEN_ID = "token_id:"  # what `return_tokens_as_token_ids` writes before an id
# Greedy, whatever a model's generation_config.json says: it gives the defaults of a request.
GREEDY = {
    "temperature": 0,
    "top_p": 1,
    "top_k": 0,
    "min_p": 0,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


class _Usage(BaseModel):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt = 0

    @property
    def counted(self) -> Counted:
        return Counted(self.prompt_tokens, self.completion_tokens)


class _Logprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[FiniteFloat]
    top_logprobs: list[dict[str, FiniteFloat]]


class _PromptToken(BaseModel):
    logprob: FiniteFloat


class _Choice(BaseModel):
    text: str
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    prompt_logprobs: list[dict[int, _PromptToken] | None] | None = None
    token_ids: tuple[int, ...] | None = None


class _Completion(BaseModel):
    choices: tuple[_Choice]
    usage: _Usage


def _next_token(target: Target, context: Context, wanted: Sequence[int]) -> Call:
    body = {
        "model": target.adapter or target.name,
        "prompt": list(context.ids),
        "max_tokens": 1,
        **GREEDY,
        "logprobs": target.facts.top,
        "return_tokens_as_token_ids": True,
    }
    if target.facts.exact:
        body["logprob_token_ids"] = list(wanted)
    return Call(COMPLETIONS, body)


def _read_next(answer: bytes) -> NextToken:
    completion = read(answer, _Completion)
    logprobs = completion.choices[0].logprobs
    if logprobs is None or not logprobs.tokens or not logprobs.top_logprobs:
        raise NoLogprobsError
    if not logprobs.token_logprobs:
        raise ValueError("a token without its log-probability in the answer")
    greedy = _token_id(logprobs.tokens[0])
    values: dict[int | str, float] = {
        _token_id(token): value for token, value in logprobs.top_logprobs[0].items()
    }
    values.setdefault(greedy, logprobs.token_logprobs[0])
    return NextToken(values, greedy, completion.usage.counted)


def _token_id(token: str) -> int:
    if not token.startswith(TOKEN_ID):
        raise ValueError(f"a token is {token!r}, not {TOKEN_ID}ID")
    return int(token.removeprefix(TOKEN_ID))


def _continuation(target: Target, sequence: Sequence[int], start: int) -> Call:
    body = {
        "model": target.adapter or target.name,
        "prompt": list(sequence),
        "max_tokens": 1,
        **GREEDY,
        # The prompt's own tokens and the most likely one of each position, with ranks.
        "prompt_logprobs": 1,
    }
    return Call(COMPLETIONS, body)


def _read_continuation(answer: bytes, sequence: Sequence[int], start: int) -> Continuation:
    completion = read(answer, _Completion)
    positions = completion.choices[0].prompt_logprobs
    if positions is None or len(positions) != len(sequence):
        raise ValueError("no log-probabilities of the prompt in the answer")
    total, is_greedy = 0.0, True
    for token, position in zip(sequence[start:], positions[start:], strict=True):
        if position is None or token not in position:
            raise ValueError(f"no log-probability of token {token} in the answer")
        total += position[token].logprob
        is_greedy &= position[token].logprob == max(other.logprob for other in position.values())
    return Continuation(total, is_greedy, completion.usage.counted)


def _generate(target: Target, context: Context, max_new_tokens: int) -> Call:
    body = {
        "model": target.adapter or target.name,
        "prompt": list(context.ids),
        "max_tokens": max_new_tokens,
        **GREEDY,
        "return_token_ids": True,
    }
    return Call(COMPLETIONS, body)


def _read_generated(answer: bytes) -> Generation:
    completion = read(answer, _Completion)
    choice = completion.choices[0]
    if choice.finish_reason not in ("stop", "length"):
        raise ValueError(f"generation ended with {choice.finish_reason!r}")
    ended = choice.finish_reason == "stop"
    served = ServedText(choice.text, ended, choice.token_ids)
    return Generation(served, completion.usage.counted)


VLLM = Wire(
    next_token=_next_token,
    read_next=_read_next,
    generate=_generate,
    read_generated=_read_generated,
    given_text=GivenText(_continuation, _read_continuation),
)
