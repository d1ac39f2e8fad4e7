"""Scoring: the shared, batched scorer agrees with the reference scorer and with a naive loop."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, SIZE, probe
from transformers import AutoModelForCausalLM, GptOssConfig, PreTrainedTokenizerFast

from isogloss.errors import ModelError
from isogloss.inference import scoring
from isogloss.inference.predict import predict
from isogloss.inference.reference import reference_scores
from isogloss.inference.scoring import score
from isogloss.models import lm_head
from isogloss.models.forward import hidden_states
from isogloss.models.language_model import Batching, LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation, locate
from isogloss.models.paths import can_share
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item
from isogloss.types import Labels

LETTER, CLOZE = Protocol("letter"), Protocol("cloze")


def naive_score(model: LanguageModel, context: str, continuation: str) -> tuple[float, bool]:
    """Log-likelihood of a continuation from full logits of one sequence, and if it is greedy."""
    sequence = model.tokenizer(context + continuation).input_ids
    start = len(model.tokenizer(context).input_ids)
    with torch.inference_mode():
        logprobs_TV = model.network(torch.tensor([sequence])).logits[0].log_softmax(-1)
    before, tokens = list(range(start - 1, len(sequence) - 1)), sequence[start:]
    is_greedy = logprobs_TV[before].argmax(-1).tolist() == tokens
    return float(logprobs_TV[before, tokens].sum()), is_greedy


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_the_reference_scorer_equals_a_naive_loop(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    for item in probe("heb_Hebr", "test", 3):
        for protocol in (LETTER, CLOZE):
            entry = prompt(item, protocol)
            scores = reference_scores(model, entry)
            naive = [naive_score(model, entry.context, text) for text in entry.continuations]
            assert scores.loglikelihoods == pytest.approx([value for value, _ in naive], abs=1e-4)
            assert (scores.greedy >= 0) == any(is_greedy for _, is_greedy in naive)


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
@pytest.mark.parametrize(("labels", "shown"), [("digits", "1234"), ("native", "אבגד")])
def test_scores_by_label_are_full_logits_at_the_tokens_of_the_labels(
    labels: str, shown: str, architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    protocol = Protocol("letter", labels=Labels(labels))
    items = probe("heb_Hebr", "test", 3)
    for item, prediction in zip(items, predict(model, items, protocol, "probe"), strict=True):
        context = prompt(item, protocol).context
        assert f"\n{shown[1]}: {item.options[1]}\n{shown[2]}: " in context
        naive = [naive_score(model, context, f" {label}") for label in shown[: len(item.options)]]
        assert prediction.choice_logprobs == pytest.approx([value for value, _ in naive], abs=2e-4)
        assert prediction.format_mass == pytest.approx(
            sum(math.exp(value) for value, _ in naive), rel=1e-3
        )
        assert prediction.valid == any(is_greedy for _, is_greedy in naive)


@pytest.mark.parametrize("share", [True, False])
def test_greedy_choices_are_those_of_the_reference_and_the_longer_of_nested_ones(
    share: bool, tiny: LanguageModel
) -> None:
    item = probe("eng_Latn", "test", 1)[0]
    context = prompt(item, CLOZE).context
    tokens = tiny.tokenizer(context).input_ids
    for _ in range(3):
        with torch.inference_mode():
            tokens.append(int(tiny.network(torch.tensor([tokens])).logits[0, -1].argmax()))
    start = len(tokens) - 3
    other = [*tokens[:-1], (tokens[-1] + 1) % 100]
    sequences = tuple(map(tuple, (other, tokens[:-2], tokens, tokens[:-1])))
    (scores,) = score(tiny, [EncodedPrompt(sequences, (start,) * 4)], [item], share)
    assert scores.greedy == 2
    (scores,) = score(tiny, [EncodedPrompt(sequences[:1], (start,))], [item], share)
    assert scores.greedy == -1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_full_and_sliding_attention_can_share(
    architecture: str, dtype: str, model_folder: Callable[[str], Path]
) -> None:
    assert can_share(load(locate(str(model_folder(architecture))), dtype))


def test_attention_with_sinks_cannot_share(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = GptOssConfig(**SIZE, sliding_window=48, num_local_experts=4, num_experts_per_tok=2)
    network = AutoModelForCausalLM.from_config(config).eval()
    for layer in network.model.layers:
        torch.nn.init.constant_(layer.self_attn.sinks, 2.0)
    location = ModelLocation("sinks", Path("."), "")
    model = LanguageModel(location, tokenizer, network, torch.device("cpu"), torch.float32)
    assert not can_share(model)
    items = probe("eng_Latn", "test", 3)
    prompts = [prompt(item, CLOZE) for item in items]
    for entry, scores in zip(
        prompts, score(model, encode(tokenizer, prompts), items, share=False), strict=True
    ):
        expected = reference_scores(model, entry)
        assert scores.loglikelihoods == pytest.approx(expected.loglikelihoods, abs=2e-4)


@pytest.mark.parametrize("failing", [1, 4])
def test_batches_that_exhaust_memory_are_halved(
    failing: int, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("heb_Hebr", "test", 6)
    encoded = encode(tiny.tokenizer, [prompt(item, CLOZE) for item in items])
    expected = score(tiny, encoded, items, share=True)
    most = max(len(row.tree) for row in scoring._rows(items, encoded, share=True)) // failing + 1
    sizes = []

    def states_with_little_memory(
        model: LanguageModel, trees: list[TokenTree], *nodes: object, **options: object
    ) -> object:
        sizes.append(sum(map(len, trees)))
        if sizes[-1] > most:
            torch.empty(1 << 60)  # the allocator's own error
        return hidden_states(model, trees, *nodes, **options)

    monkeypatch.setattr(scoring, "hidden_states", states_with_little_memory)
    if failing == 1:
        scores = score(tiny, encoded, items, share=True, tokens_per_batch=10 * most)
        for before, after in zip(expected, scores, strict=True):
            assert after.loglikelihoods == pytest.approx(before.loglikelihoods, abs=2e-4)
        assert max(sizes) > most >= min(sizes)
    else:
        with pytest.raises(ModelError, match="out of memory with a single sequence of"):
            score(tiny, encoded, items, share=True)


@pytest.mark.parametrize("format", ["letter", "cloze"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_shared_scoring_equals_the_reference(
    architecture: str,
    format: str,
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lm_head, "PART", 100)
    model = load(locate(str(model_folder(architecture))), "float32")
    items = probe("arb_Arab", "test", 6) + probe("eng_Latn", "test", 5)
    prompts = [prompt(item, Protocol(format)) for item in items]
    references = [reference_scores(model, entry) for entry in prompts]
    encoded = encode(model.tokenizer, prompts)
    # With sharing, without it, and without it in the model's own attention.
    for share, batching in (
        (True, Batching.TREE),
        (False, Batching.TREE),
        (False, Batching.PADDED),
        (False, Batching.SINGLE),
    ):
        model.paths = replace(model.paths, batching=batching)
        for reference, scores in zip(references, score(model, encoded, items, share), strict=True):
            assert scores.loglikelihoods == pytest.approx(reference.loglikelihoods, abs=2e-4)
            assert scores.greedy == reference.greedy


def test_scores_do_not_depend_on_the_batch(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("heb_Hebr", "test", 12)
    together = predict(tiny, items, CLOZE, "probe")
    monkeypatch.setattr(scoring, "token_budget", lambda model: 1)
    alone = predict(tiny, items, CLOZE, "probe")
    for left, right in zip(together, alone, strict=True):
        assert left.item_id == right.item_id
        assert left.choice_logprobs == pytest.approx(right.choice_logprobs, abs=2e-4)


def test_batches_hold_their_budget_and_progress_counts_each_item_once(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("heb_Hebr", "test", 9)
    encoded = encode(tiny.tokenizer, [prompt(item, CLOZE) for item in items])
    longest = max(len(row.tree) for row in scoring._rows(items, encoded, share=True))
    sizes: list[int] = []

    def recorded(
        model: LanguageModel, trees: list[TokenTree], *nodes: object, **options: object
    ) -> object:
        sizes.append(sum(map(len, trees)))
        return hidden_states(model, trees, *nodes, **options)

    monkeypatch.setattr(scoring, "hidden_states", recorded)
    for share in (True, False):
        sizes.clear()
        counts: list[int] = []
        score(tiny, encoded, items, share, counts.append, tokens_per_batch=2 * longest)
        assert max(sizes) <= 2 * longest
        assert len(counts) == len(sizes) > 1
        assert sum(counts) == len(items)
        assert min(counts) >= 0


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_in_bfloat16_a_float32_head_resolves_ties_between_letters(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "bfloat16")
    items = probe("eng_Latn", "test", 4)
    encoded = encode(model.tokenizer, [prompt(item, LETTER) for item in items])
    rough, fine = (
        score(model, encoded, items, share=False, float32_head=exact) for exact in (False, True)
    )
    weight = model.network.get_output_embeddings().weight
    for entry, coarse, scores in zip(encoded, rough, fine, strict=True):
        sequence, start = entry.sequences[0], entry.starts[0]
        tree = TokenTree()
        path = tree.insert(sequence[:-1])
        with torch.inference_mode():
            states_1D = hidden_states(model, [tree], [[path[start - 1]]])
        logprobs_V = (states_1D[0].float() @ weight.float().T).log_softmax(-1)
        expected = float(logprobs_V[sequence[start]])
        assert scores.loglikelihoods[0] == pytest.approx(expected, abs=5e-3)
        assert scores.loglikelihoods == pytest.approx(coarse.loglikelihoods, abs=0.2)
        assert scores.loglikelihoods != coarse.loglikelihoods


def test_the_first_of_equally_likely_tokens_is_the_greedy_one(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat_NV = torch.zeros(2, 512)
    flat_NV[1, [150, 160, 450]] = 5.0
    parts = [(start, flat_NV[:, start : start + 100]) for start in range(0, 512, 100)]
    monkeypatch.setattr(scoring, "logit_parts", lambda *_, **__: iter(parts))
    targets = [(0, 0), (0, 99), (0, 100), (1, 150), (1, 160), (1, 450), (1, 0)]
    positions, tokens = zip(*targets, strict=True)
    states_ND = torch.zeros(2, 32)
    logprob_M, is_greedy_M = scoring._score_tokens(tiny, states_ND, positions, tokens, False)
    assert is_greedy_M.tolist() == [True, False, False, True, False, False, False]
    logprobs_NV = flat_NV.log_softmax(-1)
    expected = [float(logprobs_NV[position, token]) for position, token in targets]
    assert logprob_M.tolist() == pytest.approx(expected, abs=1e-6)


def test_prompts_of_a_passage_and_choices_of_a_prompt_share_tokens(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 2)
    encoded = encode(tiny.tokenizer, [prompt(item, CLOZE) for item in items])
    tree = TokenTree()
    for entry in encoded:
        for sequence in entry.sequences:
            assert [tree.tokens[node] for node in tree.insert(sequence)] == list(sequence)
    longest = max(len(sequence) for entry in encoded for sequence in entry.sequences)
    assert len(tree) < 1.7 * longest


def test_only_items_of_one_language_and_passage_share_a_row(tiny: LanguageModel) -> None:
    def item(number: int, language: str, passage_id: str) -> Item:
        return Item(str(number), passage_id, language, "Text.", f"What {number}?", ("a", "b"), 0)

    items = [
        item(0, "eng_Latn", "p"), item(1, "heb_Hebr", "p"), item(2, "eng_Latn", "q"),
        item(3, "eng_Latn", "p"),
    ]  # fmt: skip
    encoded = encode(tiny.tokenizer, [prompt(entry, CLOZE) for entry in items])
    rows = scoring._rows(items, encoded, share=True)
    groups = sorted(sorted({choice.item for choice in row.choices}) for row in rows)
    assert groups == [[0, 3], [1], [2]]
    assert len(scoring._rows((), encoded, share=False)) == 8


def test_predictions_agree_with_the_scores(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 8)
    for item, prediction in zip(items, predict(tiny, items, LETTER, "probe"), strict=True):
        assert prediction.item_id == item.item_id
        logprobs = prediction.choice_logprobs
        assert prediction.prediction == logprobs.index(max(logprobs))
        assert prediction.correct == (prediction.prediction == item.answer)
        assert 0 < prediction.format_mass < 1
        assert prediction.gold_logprob <= 0
    for item, prediction in zip(items, predict(tiny, items, CLOZE, "probe"), strict=True):
        per_character = [
            value / len(option)
            for value, option in zip(prediction.choice_logprobs, item.options, strict=True)
        ]
        assert prediction.prediction == per_character.index(max(per_character))
        assert prediction.format_mass is None


def test_a_prompt_without_a_beginning_of_sequence_token_is_scored_from_its_first_token(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Prompt("P: a\nAnswer:", (" A", " B"))
    plain = reference_scores(tiny, entry)
    chat = reference_scores(tiny, entry, chat=True)
    item = Item("i", "p", "eng_Latn", "a", "", ("a", "b"), 0)
    for is_chat, expected in ((False, plain), (True, chat)):
        (scores,) = score(tiny, encode(tiny.tokenizer, [entry], chat=is_chat), [item], True)
        assert scores.loglikelihoods == pytest.approx(expected.loglikelihoods, abs=2e-4)
    assert plain.loglikelihoods != pytest.approx(chat.loglikelihoods, abs=2e-4)
