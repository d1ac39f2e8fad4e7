"""SGLang's wire format: its native `/generate`, with token ids as the prompt.

Sources: docs.sglang.io, "Sampling Parameters" (fields of `/generate`) and "SGLang Native APIs"; for
the shape of log-probabilities `detokenize_logprob_tokens` and `_process_input_token_logprobs` in
sglang/srt/managers: entries are [log-probability, token id, text or null], and those of a prompt
begin at `logprob_start_len` with one that has no value.
"""

from collections.abc import Sequence
from typing import Literal

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

GENERATE = "/generate"
GREEDY = {
    "temperature": 0,
    "top_p": 1,
    "top_k": -1,
    "min_p": 0,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}

_Entry = tuple[FiniteFloat, int, str | None]
_InputEntry = tuple[FiniteFloat | None, int, str | None]


class _FinishReason(BaseModel):
    type: Literal["stop", "length"]


class _MetaInfo(BaseModel):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt = 0
    finish_reason: _FinishReason | None = None
    output_token_logprobs: list[_Entry] = []
    output_top_logprobs: list[list[_Entry] | None] = []
    output_token_ids_logprobs: list[list[_Entry] | None] = []
    input_token_logprobs: list[_InputEntry] = []
    input_top_logprobs: list[list[_Entry] | None] = []

    @property
    def counted(self) -> Counted:
        return Counted(self.prompt_tokens, self.completion_tokens)


class _Generated(BaseModel):
    text: str
    output_ids: tuple[int, ...] | None = None
    meta_info: _MetaInfo


def _body(target: Target, ids: Sequence[int], max_new_tokens: int) -> dict[str, object]:
    body: dict[str, object] = {
        "input_ids": list(ids),
        "sampling_params": {"max_new_tokens": max_new_tokens, **GREEDY},
    }
    if target.adapter is not None:
        body["lora_path"] = target.adapter
    return body


def _next_token(target: Target, context: Context, wanted: Sequence[int]) -> Call:
    asked = {"return_logprob": True, "logprob_start_len": -1, "token_ids_logprob": list(wanted)}
    return Call(GENERATE, _body(target, context.ids, 1) | asked)


def _read_next(answer: bytes) -> NextToken:
    meta = read(answer, _Generated).meta_info
    if not meta.output_token_logprobs or not meta.output_token_ids_logprobs:
        raise NoLogprobsError
    value, greedy, _ = meta.output_token_logprobs[0]
    values: dict[int | str, float] = {greedy: value}
    values |= {token: value for value, token, _ in meta.output_token_ids_logprobs[0] or ()}
    return NextToken(values, greedy, meta.counted)


def _given_text(target: Target, sequence: Sequence[int], start: int) -> Call:
    # From the token before: the first entry has no value. A start of 0 would defeat the cache.
    asked = {"return_logprob": True, "logprob_start_len": start - 1, "top_logprobs_num": 1}
    return Call(GENERATE, _body(target, sequence, 1) | asked)


def _read_given(answer: bytes, sequence: Sequence[int], start: int) -> Continuation:
    meta = read(answer, _Generated).meta_info
    entries, tops = meta.input_token_logprobs[1:], meta.input_top_logprobs[1:]
    if [token for _, token, _ in entries] != list(sequence[start:]) or len(tops) != len(entries):
        raise ValueError("the log-probabilities in the answer are of other tokens")
    total, is_greedy = 0.0, True
    for (value, _, _), top in zip(entries, tops, strict=True):
        if value is None or not top:
            raise ValueError("a token of the answer has no log-probability")
        total += value
        is_greedy &= value >= top[0][0]
    return Continuation(total, is_greedy, meta.counted)


def _generate(target: Target, context: Context, max_new_tokens: int) -> Call:
    return Call(GENERATE, _body(target, context.ids, max_new_tokens))


def _read_generated(answer: bytes) -> Generation:
    generated = read(answer, _Generated)
    reason = generated.meta_info.finish_reason
    if reason is None:
        raise ValueError("generation has not ended")
    served = ServedText(generated.text, reason.type == "stop", generated.output_ids)
    return Generation(served, generated.meta_info.counted)


SGLANG = Wire(
    next_token=_next_token,
    read_next=_read_next,
    generate=_generate,
    read_generated=_read_generated,
    given_text=GivenText(_given_text, _read_given),
)
