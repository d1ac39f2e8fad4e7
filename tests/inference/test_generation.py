"""Generation: batched greedy decoding agrees with a naive loop without a cache."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, probe

from isogloss.inference import generation
from isogloss.inference.generation import Generated, IsComplete, generate
from isogloss.models.language_model import Batching, LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt


def never(text: str) -> bool:
    return False


def naive_greedy(
    model: LanguageModel, context: str, max_new_tokens: int, is_complete: IsComplete
) -> str:
    """Greedy decoding of one text with full logits and without a cache."""
    ids = model.tokenizer(context).input_ids
    start = len(ids)
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            token = int(model.network(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        text = model.tokenizer.decode(ids[start:], skip_special_tokens=True)
        if token == model.tokenizer.eos_token_id or is_complete(text):
            break
    return str(model.tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_batched_generation_equals_a_naive_greedy_loop(
    architecture: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    items = probe("arb_Arab", "test", 3) + probe("eng_Latn", "test", 4)
    contexts = [prompt(item, Protocol("generate")).context for item in items]
    stops: list[IsComplete] = [
        (lambda text, most=10 + 5 * index: len(text) > most) for index in range(len(items))
    ]
    expected = [
        naive_greedy(model, context, 24, stop)
        for context, stop in zip(contexts, stops, strict=True)
    ]
    counts: list[int] = []
    generated = generate(model, contexts, 24, stops, progress=counts.append)
    assert [entry.text for entry in generated] == expected
    for entry, stop in zip(generated, stops, strict=True):
        assert entry.ended or not stop(entry.text)
    assert sum(counts) == len(items)
    monkeypatch.setattr(generation, "GENERATION_TOKENS", 1)
    assert [entry.text for entry in generate(model, contexts, 24, stops)] == expected
    monkeypatch.undo()
    model.paths = replace(model.paths, batching=Batching.PADDED)
    assert [entry.text for entry in generate(model, contexts, 24, stops)] == expected
    assert len({len(text) for text in expected}) > 1


def test_a_text_ends_at_its_token_limit_or_at_an_end_of_sequence_token(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = prompt(probe("eng_Latn", "test", 1)[0], Protocol("generate")).context
    expected = naive_greedy(tiny, context, 5, never)
    assert generate(tiny, [context], 5, [never]) == [Generated(expected, False)]
    tokens = tiny.tokenizer(context).input_ids
    for _ in range(3):
        with torch.inference_mode():
            tokens.append(int(tiny.network(torch.tensor([tokens])).logits[0, -1].argmax()))
    new_tokens = tokens[-3:]
    n_expected = new_tokens.index(new_tokens[2]) + 1
    text = tiny.tokenizer.decode(new_tokens[:n_expected], skip_special_tokens=True)
    config = tiny.network.generation_config
    for eos in (new_tokens[2], [0, new_tokens[2]]):
        monkeypatch.setattr(config, "eos_token_id", eos)
        assert generate(tiny, [context], 5, [never]) == [Generated(text, True)]


def test_end_of_sequence_tokens_are_the_generation_configs_or_the_tokenizers(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.network.generation_config
    for stated, expected in ((3, {3}), ([3, 5], {3, 5}), (0, {0})):
        monkeypatch.setattr(config, "eos_token_id", stated)
        assert generation._eos_tokens(tiny) == expected
    monkeypatch.setattr(config, "eos_token_id", None)
    assert generation._eos_tokens(tiny) == {tiny.tokenizer.eos_token_id}


def test_batches_hold_prompts_and_new_tokens_of_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation, "GENERATION_TOKENS", 40)
    prompts = [[0] * length for length in (3, 10, 5, 10, 4, 30)]
    assert list(generation._batches(prompts, 10)) == [[5], [1, 3], [2, 4], [0]]


def test_no_contexts_give_no_texts(tiny: LanguageModel) -> None:
    assert generate(tiny, [], 8, []) == []
