"""llama.cpp's wire format: its server's own `/completion`, with token ids as the prompt.

Source: tools/server/README.md of llama.cpp, and `get_token_probabilities` in server-common.cpp: the
probabilities are a softmax of raw logits, before any sampler, unless `post_sampling_probs` is set.
The server tells nothing of the tokens of a prompt, so that options cannot be scored.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

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

COMPLETION = "/completion"
GREEDY: Mapping[str, object] = {
    "temperature": 0,
    "samplers": ["temperature"],
    "mirostat": 0,
    # A prompt that is partly in the cache passes other kernels: on a CPU its log-probabilities were
    # measured to differ by up to 0.12 nats (Q4_K_M). Without the cache, repetition changes nothing.
    "cache_prompt": False,
    "post_sampling_probs": False,
    "return_tokens": True,
    # What an answer says besides would repeat the prompt and the settings.
    "response_fields": [
        "content",
        "tokens",
        "tokens_evaluated",
        "tokens_predicted",
        "truncated",
        "stop_type",
        "completion_probabilities",
    ],
}


class _Probability(BaseModel):
    id: int
    logprob: FiniteFloat


class _Position(_Probability):
    top_logprobs: list[_Probability]


class _Completion(BaseModel):
    content: str
    tokens: tuple[int, ...]
    tokens_evaluated: NonNegativeInt
    tokens_predicted: NonNegativeInt
    truncated: Literal[False]
    stop_type: Literal["eos", "limit", "word"]
    completion_probabilities: list[_Position] = []

    @property
    def counted(self) -> Counted:
        return Counted(self.tokens_evaluated, self.tokens_predicted)


def _body(target: Target, ids: Sequence[int], n_predict: int) -> dict[str, object]:
    body = {"prompt": list(ids), "n_predict": n_predict, **GREEDY}
    adapters = [name for name in target.facts.models if name not in target.facts.bases]
    if adapters:
        # Those that a request does not list have scale 0, but without a list the server's apply.
        body["lora"] = [
            {"id": index, "scale": 1.0 if name == target.adapter else 0.0}
            for index, name in enumerate(adapters)
        ]
    return body


def _next_token(target: Target, context: Context, wanted: Sequence[int]) -> Call:
    return Call(COMPLETION, _body(target, context.ids, 1) | {"n_probs": target.facts.top})


def _read_next(answer: bytes) -> NextToken:
    completion = read(answer, _Completion)
    if not completion.completion_probabilities:
        raise NoLogprobsError
    position = completion.completion_probabilities[0]
    values: dict[int | str, float] = {top.id: top.logprob for top in position.top_logprobs}
    return NextToken(values, position.id, completion.counted)


def _generate(target: Target, context: Context, max_new_tokens: int) -> Call:
    return Call(COMPLETION, _body(target, context.ids, max_new_tokens))


def _read_generated(answer: bytes) -> Generation:
    completion = read(answer, _Completion)
    ended = completion.stop_type != "limit"
    served = ServedText(completion.content, ended, completion.tokens)
    return Generation(served, completion.counted)


LLAMA_CPP = Wire(
    next_token=_next_token,
    read_next=_read_next,
    generate=_generate,
    read_generated=_read_generated,
    no_given_text="llama.cpp's server tells no log-probabilities of a given text, so that it "
    "cannot score options; expected format=letter or format=generate, or another server.",
)
