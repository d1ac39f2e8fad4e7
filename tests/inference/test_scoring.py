from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, SIZE, probe
from transformers import AutoModelForCausalLM, GptOssConfig, PreTrainedTokenizerFast

from isogloss.errors import ModelError
from isogloss.inference import scoring
from isogloss.inference.predict import predict
from isogloss.inference.scoring import score
from isogloss.models import lm_head as head
from isogloss.models.forward import can_share, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation, locate
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode

LETTER, CLOZE = Protocol("letter"), Protocol("cloze")


def naive_scores(model: LanguageModel, context: str, continuation: str) -> tuple[float, bool]:
    """Log-likelihood of a continuation from full logits of one sequence, and if it is greedy."""
    whole = model.tokenizer(context + continuation).input_ids
    start = len(model.tokenizer(context).input_ids)
    with torch.inference_mode():
        logprobs_TV = model.network(torch.tensor([whole])).logits[0].log_softmax(-1)
    before, tokens = list(range(start - 1, len(whole) - 1)), whole[start:]
    greedy = logprobs_TV[before].argmax(-1).tolist() == tokens
    return float(logprobs_TV[before, tokens].sum()), greedy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_plain_and_sliding_attention_can_share(
    architecture: str, dtype: str, model_folder: Callable[[str], Path]
) -> None:
    assert can_share(load(locate(str(model_folder(architecture))), dtype))


def test_attention_with_terms_of_its_own_cannot_share(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = GptOssConfig(**SIZE, sliding_window=48, num_local_experts=4, num_experts_per_tok=2)
    network = AutoModelForCausalLM.from_config(config).eval()
    for layer in network.model.layers:  # a sink of its own for each head
        torch.nn.init.constant_(layer.self_attn.sinks, 2.0)
    location = ModelLocation("sinks", Path("."), "")
    model = LanguageModel(location, tokenizer, network, torch.device("cpu"), torch.float32)
    assert not can_share(model)
    chosen = probe("eng_Latn", "test", 3)
    prompts = [prompt(item, CLOZE) for item in chosen]
    scores = score(model, encode(tokenizer, prompts), chosen, share=False)
    for entry, found in zip(prompts, scores, strict=True):
        naive = [naive_scores(model, entry.context, text) for text in entry.continuations]
        assert found.loglikelihoods == pytest.approx([value for value, _ in naive], abs=2e-4)


@pytest.mark.parametrize("failing", [1, 4])
def test_batches_that_memory_runs_out_on_are_halved(
    failing: int, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = probe("heb_Hebr", "test", 6)
    encoded = encode(tiny.tokenizer, [prompt(item, CLOZE) for item in chosen])
    expected = score(tiny, encoded, chosen, share=True)
    most = max(len(row.tree) for row in scoring._rows(chosen, encoded, share=True)) // failing + 1
    sizes = []
    given = scoring.hidden_states

    def states_of_few(
        model: LanguageModel, trees: list[TokenTree], *wanted: object, **more: object
    ) -> object:
        sizes.append(sum(map(len, trees)))
        if sizes[-1] > most:
            torch.empty(1 << 60)  # the allocator's own error
        return given(model, trees, *wanted, **more)

    monkeypatch.setattr(scoring, "hidden_states", states_of_few)
    if failing == 1:
        found = score(tiny, encoded, chosen, share=True, tokens_per_batch=10 * most)
        for before, after in zip(expected, found, strict=True):
            assert after.loglikelihoods == pytest.approx(before.loglikelihoods, abs=2e-4)
        assert max(sizes) > most >= min(sizes)
    else:
        with pytest.raises(ModelError, match="out of memory with a single sequence of"):
            score(tiny, encoded, chosen, share=True)


@pytest.mark.parametrize("format", ["letter", "cloze"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_shared_scoring_equals_naive_full_logits_of_each_sequence(
    architecture: str,
    format: str,
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head, "PART", 100)
    model = load(locate(str(model_folder(architecture))), "float32")
    chosen = probe("arb_Arab", "test", 6) + probe("eng_Latn", "test", 5)
    prompts = [prompt(item, Protocol(format)) for item in chosen]
    naive = [
        [naive_scores(model, entry.context, text) for text in entry.continuations]
        for entry in prompts
    ]
    # Shared, each by itself, and each by itself with the model's own attention.
    for share, shares in ((True, True), (False, True), (False, False)):
        model.shares = shares
        scores = score(model, encode(model.tokenizer, prompts), chosen, share)
        for expected, found in zip(naive, scores, strict=True):
            assert found.loglikelihoods == pytest.approx([value for value, _ in expected], abs=2e-4)
            said = [choice for choice, (_, greedy) in enumerate(expected) if greedy]
            assert (found.greedy in said) if said else found.greedy == -1


def test_scores_do_not_depend_on_the_batch(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = probe("heb_Hebr", "test", 12)
    together = predict(tiny, chosen, CLOZE, "probe")
    monkeypatch.setattr(scoring, "token_budget", lambda model: 1)
    alone = predict(tiny, chosen, CLOZE, "probe")
    for left, right in zip(together, alone, strict=True):
        assert left.item_id == right.item_id
        assert left.choice_logprobs == pytest.approx(right.choice_logprobs, abs=2e-4)


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_in_bfloat16_letters_are_told_apart_by_a_head_in_float32(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "bfloat16")
    chosen = probe("eng_Latn", "test", 4)
    prompts = [prompt(item, LETTER) for item in chosen]
    encoded = encode(model.tokenizer, prompts)
    rough, fine = (
        score(model, encoded, chosen, share=False, float32_head=exact) for exact in (False, True)
    )
    weight = model.network.get_output_embeddings().weight
    for entry, coarse, found in zip(encoded, rough, fine, strict=True):
        sequence, start = entry.sequences[0], entry.starts[0]
        tree = TokenTree()
        path = tree.insert(sequence[:-1])
        with torch.inference_mode():
            states_1D = hidden_states(model, [tree], [[path[start - 1]]])
        logprobs_V = (states_1D[0].float() @ weight.float().T).log_softmax(-1)
        assert found.loglikelihoods[0] == pytest.approx(
            float(logprobs_V[sequence[start]]), abs=5e-3
        )
        assert found.loglikelihoods == pytest.approx(coarse.loglikelihoods, abs=0.2)
        assert found.loglikelihoods != coarse.loglikelihoods


def test_prompts_of_a_passage_share_its_tokens_and_choices_share_the_prompt(
    tiny: LanguageModel,
) -> None:
    chosen = probe("eng_Latn", "test", 2)
    encoded = encode(tiny.tokenizer, [prompt(item, CLOZE) for item in chosen])
    tree = TokenTree()
    for entry in encoded:
        for sequence in entry.sequences:
            assert [tree.tokens[node] for node in tree.insert(sequence)] == list(sequence)
    longest = max(len(sequence) for entry in encoded for sequence in entry.sequences)
    assert len(tree) < 1.7 * longest


def test_predictions_say_what_the_scores_say(tiny: LanguageModel) -> None:
    chosen = probe("eng_Latn", "test", 8)
    letters = predict(tiny, chosen, LETTER, "probe")
    for item, found in zip(chosen, letters, strict=True):
        assert found.item_id == item.item_id
        assert found.prediction == max(range(4), key=lambda choice: found.choice_logprobs[choice])
        assert found.correct == (found.prediction == item.answer)
        assert 0 < found.format_mass < 1
        assert found.gold_logprob <= 0
    clozes = predict(tiny, chosen, CLOZE, "probe")
    for item, found in zip(chosen, clozes, strict=True):
        per_character = [
            value / len(option)
            for value, option in zip(found.choice_logprobs, item.options, strict=True)
        ]
        assert found.prediction == per_character.index(max(per_character))
        assert found.format_mass is None


def test_the_letter_prompt_is_that_of_lm_evaluation_harness_for_belebele() -> None:
    item = probe("eng_Latn", "test", 1)[0]
    a, b, c, d = item.options
    assert prompt(item, LETTER).context == (
        f"P: {item.passage}\nQ: {item.question}\nA: {a}\nB: {b}\nC: {c}\nD: {d}\nAnswer:"
    )
    assert prompt(item, LETTER).continuations == (" A", " B", " C", " D")
