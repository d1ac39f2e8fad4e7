"""SGLang's wire format, spoken with a server of its formats whose model is known."""

from collections.abc import Iterator

import pytest
import sglang_server

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers.opening import found_kind, open_server
from isogloss.servers.probe import probe, refusal
from isogloss.servers.types import Scores, ServedAdapter
from isogloss.servers.wire import Context
from isogloss.types import EngineKind

CONTEXT = (2, 9, 4, 30)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with sglang_server.sglang_server() as url:
        yield Engine(kind=EngineKind.SGLANG, base_url=f"{url}/v1", price_in=2.0, price_out=10.0)


def loglikelihood(sequence: tuple[int, ...], adapter: str | None = None) -> float:
    """The sum over tokens after the context, one by one."""
    return sum(
        sglang_server.logprobs(sequence[:at], adapter)[sequence[at]]
        for at in range(len(CONTEXT), len(sequence))
    )


def encoded(*continuations: tuple[int, ...]) -> EncodedPrompt:
    sequences = tuple(CONTEXT + continuation for continuation in continuations)
    return EncodedPrompt(sequences, (len(CONTEXT),) * len(sequences))


def prompt(entry: EncodedPrompt) -> Prompt:
    return Prompt("context", tuple(f" {index}" for index in range(len(entry.sequences))))


def test_an_unknown_server_is_found_to_be_sglang(engine: Engine):
    assert engine.base_url is not None
    assert found_kind(engine.base_url) == EngineKind.SGLANG


def test_facts_name_version_models_and_context(engine: Engine):
    facts = open_server(engine).facts
    assert (facts.version, facts.context_length, facts.bases) == ("0.5.9", 200, ("toy",))
    assert facts.models == {"toy": "toy", "tuned": "/adapters/tuned"}
    assert facts.exact


@pytest.mark.parametrize("labels", [True, False])
def test_choices_of_several_tokens_are_sums_of_all_their_tokens(engine: Engine, labels: bool):
    # The second begins as the first and continues greedily, so that greedy decoding gives it.
    best = tuple(sglang_server.greedy(CONTEXT, 3))
    entries = [encoded((5,), (5, 6), (7, 8, 9)), encoded(best[:1], best, (5, 5))]
    server = open_server(engine)
    prompts = [prompt(entry) for entry in entries]
    results = dict(server.score(entries, prompts, labels=labels))
    for index, entry in enumerate(entries):
        scores = results[index]
        assert isinstance(scores, Scores)
        expected = [loglikelihood(sequence) for sequence in entry.sequences]
        assert scores.loglikelihoods == pytest.approx(expected)
        assert (scores.prompt_tokens, scores.bounded) == (len(CONTEXT), False)
    assert [results[index].greedy for index in (0, 1)] == [-1, 1]


def test_an_adapter_is_found_by_folder_and_changes_the_scores(engine: Engine, tmp_path):
    entry = encoded((5,), (6,))
    with pytest.raises(
        ModelError, match=r"does not load the adapter.*expected a server started with"
    ):
        open_server(engine, ServedAdapter("abc", tmp_path))
    for adapter in (ServedAdapter("abc", name="tuned"),):
        server = open_server(engine, adapter)
        assert server.model == "tuned"
        ((_, scores),) = server.score([entry], [prompt(entry)], labels=True)
        assert isinstance(scores, Scores)
        expected = [loglikelihood(sequence, "tuned") for sequence in entry.sequences]
        assert scores.loglikelihoods == pytest.approx(expected)
    with pytest.raises(ModelError, match=r"no adapter 'other'; expected 'tuned'"):
        open_server(engine, ServedAdapter("abc", name="other"))


def test_generated_text_is_greedy_with_ids_and_end(engine: Engine):
    contexts = [Context((2, number), "") for number in range(12)]
    results = dict(open_server(engine).generate(contexts, 30))
    for index, context in enumerate(contexts):
        new = sglang_server.greedy(context.ids, 30)
        assert results[index].ids == tuple(new)
        assert results[index].ended == (sglang_server.END in new)
    assert {result.ended for result in results.values()} == {True, False}


def test_usage_counts_tokens_and_cost(engine: Engine):
    entry = encoded((5,), (6,))
    server = open_server(engine)
    list(server.score([entry] * 10, [prompt(entry)] * 10, labels=True))
    usage = server.usage
    assert (usage.requests, usage.retries) == (3 + 10, 0)
    assert (usage.prompt_tokens, usage.generated_tokens) == (40, 10)
    assert engine.cost(40, 10) == pytest.approx((40 * 2 + 10 * 10) / 1e6)


def test_the_probe_finds_the_toy_usable_and_a_base_in_place_of_an_adapter(engine: Engine):
    entry = encoded((5,), (6,))
    base = open_server(engine)
    tuned = open_server(engine, ServedAdapter("abc", name="tuned"))
    findings = probe(base, entry, prompt(entry), tuned=tuned)
    assert refusal(findings) is None
    assert (findings.labels, findings.prompt_tokens, findings.noise) == (2, 4, 0.0)
    assert findings.adapter_effect is not None
    assert findings.adapter_effect > 0.1
    sentence = refusal(probe(base, entry, prompt(entry), tuned=base))
    assert sentence is not None
    assert "answers with the adapter as without it" in sentence
