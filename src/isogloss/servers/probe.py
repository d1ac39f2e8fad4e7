"""The probe of a server before the first item: what would make its scores silently wrong.

Known failures of servers, each found here by its effect: no log-probabilities; those of other
tokens than were asked for; a second BOS, or a prompt that was cut; log-probabilities after
temperature or after a cut to the most likely tokens; the base in place of an adapter; a model that
reasons before it answers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isogloss.errors import ModelError
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers.evaluating import EvaluatingServer
from isogloss.servers.openai import CHAT, read_message
from isogloss.servers.server import Server
from isogloss.servers.types import Failure, PromptsAs
from isogloss.servers.wire import Call, Context, NextToken

OTHER_TEMPERATURE = 2.0  # the highest that vLLM and OpenAI accept
TEMPERATURE_TOLERANCE = 0.5  # nats; rounding of bfloat16 logits stays below it, a temperature not
MASS_TOLERANCE = 0.02
REASONING_TOKENS = 16


@dataclass(frozen=True)
class Findings:
    """What a server answered to the prompt of one item; None for what was not asked.

    `labels` of `n_labels` have log-probabilities, which with all others that came back are `mass`
    in probability. `likely` are the most likely tokens. `temperature_effect` is the largest change
    of a log-probability at another temperature, `adapter_effect` that of a choice with the adapter,
    `noise` that without any change (nats). `answer` is that of the adapter, or of the base.
    """

    server: str
    prompt_tokens: int | None = None
    expected_tokens: int | None = None
    n_labels: int = 0
    labels: int | None = None
    likely: tuple[str, ...] = ()
    mass: float | None = None
    temperature_effect: float | None = None
    noise: float | None = None
    adapter_effect: float | None = None
    reasons: bool = False
    answer: NextToken | None = None


def first_answer(server: Server, encoded: EncodedPrompt, prompt: Prompt) -> NextToken:
    """What a server says of the first token of an item's choices. Raises ModelError."""
    context, wanted = _first_token(encoded, prompt)
    return server.ask(server.wire.next_token(server.target, context, wanted), server.wire.read_next)


def _first_token(encoded: EncodedPrompt, prompt: Prompt) -> tuple[Context, list[int]]:
    """The context of an item's choices, and their first tokens."""
    start = encoded.starts[0]
    wanted = sorted({sequence[start] for sequence in encoded.sequences})
    return Context(encoded.sequences[0][:start], prompt.context), wanted


def probe(
    base: Server, encoded: EncodedPrompt, prompt: Prompt, *, tuned: Server | None = None
) -> Findings:
    """Ask a server about one item, and about an adapter if `tuned` applies one.

    Raises ModelError without an answer.
    """
    start = encoded.starts[0]
    in_chat = base.facts.prompts == PromptsAs.CHAT
    context, wanted = _first_token(encoded, prompt)
    call = base.wire.next_token(base.target, context, wanted)
    first = base.ask(call, base.wire.read_next)
    again = base.ask(call, base.wire.read_next)
    hot = base.ask(_at_temperature(call, OTHER_TEMPERATURE), base.wire.read_next)
    texts = [text.strip() if in_chat else text for text in prompt.continuations]
    labels = wanted if base.facts.prompts == PromptsAs.IDS else texts
    answer, adapter_effect = first, None
    if tuned is not None:
        answer = first_answer(tuned, encoded, prompt)
        adapter_effect = _largest_change(first, answer)
    likely = sorted(first.logprobs, key=lambda token: first.logprobs[token], reverse=True)
    return Findings(
        server=base.named,
        prompt_tokens=None if in_chat else first.counted.prompt,
        expected_tokens=start,
        n_labels=len(labels),
        labels=sum(label in first.logprobs for label in labels),
        likely=tuple(repr(token) for token in likely[:5]),
        mass=math.fsum(map(math.exp, first.logprobs.values())),
        temperature_effect=_largest_change(first, hot),
        noise=_largest_change(first, again),
        adapter_effect=adapter_effect,
        reasons=in_chat and _reasons(base, prompt.context),
        answer=answer,
    )


def probe_scores(
    base: EvaluatingServer,
    encoded: EncodedPrompt,
    prompt: Prompt,
    tuned: EvaluatingServer | None,
    *,
    labels: bool,
) -> Findings:
    """Ask a server about the choices of one item, where it tells those alone.

    Raises ModelError without an answer.
    """

    def values(server: EvaluatingServer) -> tuple[float, ...]:
        ((_, scores),) = server.score([encoded], [prompt], labels=labels)
        if isinstance(scores, Failure):
            raise ModelError(f"{scores.reason}.")
        return scores.loglikelihoods

    def change(one: Sequence[float], other: Sequence[float]) -> float:
        return max(abs(first - second) for first, second in zip(one, other, strict=True))

    first, again = values(base), values(base)
    return Findings(
        server=base.named,
        mass=math.fsum(map(math.exp, first)) if labels else None,
        noise=change(first, again),
        adapter_effect=None if tuned is None else change(first, values(tuned)),
    )


def refusal(findings: Findings) -> str | None:
    """Return in one sentence why the server's scores cannot be used; None if they can."""
    server = findings.server
    if findings.reasons:
        return (
            f"{server} reasons before it answers, so that its first token is no answer; expected a "
            "server that does not, or reasoning=cot with format=generate."
        )
    tokens, expected = findings.prompt_tokens, findings.expected_tokens
    if tokens is not None and tokens != expected:
        return (
            f"{server} counts {tokens} tokens in a prompt that has {expected}; expected the same "
            "tokenizer, no second BOS and no cut prompts."
        )
    if findings.mass is not None and findings.mass > 1 + MASS_TOLERANCE:
        return (
            f"{server} returns log-probabilities that add to {findings.mass:.3g} in probability; "
            "expected at most 1, as raw log-probabilities do (vLLM: --logprobs-mode raw_logprobs)."
        )
    effect = findings.temperature_effect
    if effect is not None and effect > TEMPERATURE_TOLERANCE:
        return (
            f"{server} returns log-probabilities that change by {effect:.3g} nats with the "
            "temperature; expected those of the model, before sampling (vLLM: --logprobs-mode "
            "raw_logprobs)."
        )
    if findings.labels == 0:
        return (
            f"{server} returns no log-probability of any label; the most likely tokens are "
            f"{', '.join(findings.likely)}."
        )
    return _adapter_refusal(findings)


def _adapter_refusal(findings: Findings) -> str | None:
    effect = findings.adapter_effect
    if effect is None or effect > (findings.noise or 0.0):
        return None
    return (
        f"{findings.server} answers with the adapter as without it (log-probabilities differ by "
        f"{effect:.3g} nats, those of one request repeated by {findings.noise or 0.0:.3g}); "
        "expected a server that applies it."
    )


def _at_temperature(call: Call, temperature: float) -> Call:
    """Return a request at another temperature, with which a greedy token may be another."""
    body: dict[str, object] = dict(call.body or {})
    nested = body.get("sampling_params")
    if isinstance(nested, Mapping):
        body["sampling_params"] = {**nested, "temperature": temperature}
    else:
        body["temperature"] = temperature
    return Call(call.path, body)


def _largest_change(one: NextToken, other: NextToken) -> float:
    """Return the largest difference of the log-probability of a token that both have, in nats."""
    common = one.logprobs.keys() & other.logprobs.keys()
    return max((abs(one.logprobs[token] - other.logprobs[token]) for token in common), default=0.0)


def _reasons(server: Server, text: str) -> bool:
    """Whether a chat begins with reasoning, apart from its content or in it."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": REASONING_TOKENS,
        "temperature": 0,
    }
    message = server.ask(Call(CHAT, body), read_message)
    content = (message.content or "").lstrip()
    return bool(message.reasoning_content or message.reasoning) or content.startswith("<think")
