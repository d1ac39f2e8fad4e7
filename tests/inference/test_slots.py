"""Slots: steps over a cache of fixed size give the texts of a naive loop, however slots are used."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from conftest import CONFIGS, probe
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention

from isogloss.inference import decoding, generation, slot_decoding, slots
from isogloss.inference.decoding import proven_decoding
from isogloss.inference.generation import Generated, IsComplete, generate
from isogloss.models.language_model import Decoding, LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt

MIXTURES = ("deepseek_v3", "qwen3_moe")


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots on a CPU, where there is no graph of the step."""
    monkeypatch.setattr(slots, "SLOT_DEVICES", {"cpu"})
    monkeypatch.setattr(generation, "SLOT_DEVICES", {"cpu"})


def contexts_and_stops() -> tuple[list[str], list[IsComplete]]:
    """Prompts of different lengths, some with common beginnings, and ends at different lengths."""
    items = probe("arb_Arab", "test", 3) + probe("eng_Latn", "test", 4)
    contexts = [prompt(item, Protocol("generate")).context for item in items]
    return contexts, [
        (lambda text, most=10 + 5 * index: len(text) > most) for index in range(len(contexts))
    ]


def greedy(model: LanguageModel, context: str, most: int, is_complete: IsComplete) -> Generated:
    """Greedy decoding of one text with full logits and without a cache."""
    ids = model.tokenizer(context).input_ids
    start = len(ids)
    while True:
        with torch.inference_mode():
            ids.append(int(model.network(torch.tensor([ids])).logits[0, -1].argmax()))
        text = model.tokenizer.decode(ids[start:], skip_special_tokens=True)
        if ids[-1] == model.tokenizer.eos_token_id or is_complete(text):
            return Generated(text, True)
        if len(ids) - start == most:
            return Generated(text, False)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [("gemma3", 1), ("gemma3", 256), *((kind, 2) for kind in ("gemma3", "mistral", *MIXTURES))],
)
def test_texts_are_those_of_a_naive_loop(
    architecture: str,
    count: int,
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    monkeypatch.setattr(slot_decoding, "MOST_SLOTS", count)
    contexts, stops = contexts_and_stops()
    pairs = zip(contexts, stops, strict=True)
    expected = [greedy(model, context, 24, stop) for context, stop in pairs]
    counts: list[int] = []
    assert generate(model, contexts, 24, stops, progress=counts.append) == expected
    assert model.decoding == Decoding.SLOTS
    assert sum(counts) == len(contexts)
    assert len({len(text.text) for text in expected}) > 1


def test_a_slot_is_used_again_before_other_texts_have_ended(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven texts in two slots, of 1 to 24 tokens: steps are those of full slots."""
    monkeypatch.setattr(slot_decoding, "MOST_SLOTS", 2)
    steps: list[None] = []
    compute = slots.Slots._compute
    monkeypatch.setattr(slots.Slots, "_compute", lambda self: (steps.append(None), compute(self)))
    contexts, _ = contexts_and_stops()
    lengths = [24, 1, 9, 2, 16, 3, 5]
    seen = [0] * len(lengths)

    def ends_after(row: int) -> IsComplete:
        def is_complete(text: str) -> bool:
            seen[row] += 1
            return seen[row] == lengths[row]

        return is_complete

    proven_decoding(tiny)
    steps.clear()
    generate(tiny, contexts, 24, [ends_after(row) for row in range(len(lengths))])
    assert seen == lengths  # the token after the end of a text is not looked at
    # The first token of a text comes from its prompt, and its slot runs one step too many.
    assert len(steps) <= sum(lengths) // 2 + 24 // 2 + 1


def test_a_single_prompt_and_a_single_token(tiny: LanguageModel) -> None:
    context = contexts_and_stops()[0][0]
    expected = greedy(tiny, context, 1, lambda _: False)
    assert generate(tiny, [context], 1, [lambda _: False]) == [expected]
    assert generate(tiny, [], 1, []) == []


def test_a_text_of_logits_that_are_no_numbers_ends(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = contexts_and_stops()[0][0]
    proven_decoding(tiny)
    real = slots.logits
    monkeypatch.setattr(slots, "logits", lambda *args: real(*args) * torch.nan)
    released: list[tuple[object, ...]] = []
    monkeypatch.setattr(slots.Slots, "release", lambda _, *args: released.append(args))
    (text,) = generate(tiny, [context], 8, [lambda _: False])
    assert not text.finite
    assert not text.ended
    assert released == [([7], [7])]  # the last slot is filled first


@pytest.mark.parametrize("spoilt", [[1], []])
def test_values_that_are_no_numbers_do_not_reach_the_next_text_of_a_slot(
    tiny: LanguageModel, spoilt: list[int]
) -> None:
    prompt = [2, 3, 4]
    with torch.inference_mode():
        held = slots.Slots(tiny, 2, 16)
        for layer in held.cache.layers:
            layer.values[1, :, 8:] = torch.nan
        held.release([1], spoilt)
        held.fill([0, 1], [prompt, prompt])
        held.step()
    assert held.logits_SV.isfinite().all(1).tolist() == [True, bool(spoilt)]


def test_marked_tokens_say_which_logits_are_no_numbers() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.0, torch.nan, 3.0], [torch.nan, 0.0, 0.0]])
    marked = slots._marked(logits)
    assert marked.tolist() == [1, -2, -1]
    assert slots._unmarked(marked).tolist() == [1, 1, 0]
    assert slots._on_its_way(marked)() == ([1, 1, 0], [True, False, False])


def flash_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    used: torch.Tensor,
    *,
    width: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """What `compat.torch.flash_decode` computes, one sequence at a time."""
    rows = []
    for row, start, length in zip(query, starts.tolist()[:-1], used.tolist(), strict=True):
        first = max(length - (window or length), 0)
        keys, values = (tensor[start + first : start + length] for tensor in (key, value))
        assert length <= width
        heads = row[:, None], keys.transpose(0, 1), values.transpose(0, 1)
        attended = scaled_dot_product_attention(*heads, scale=scale, enable_gqa=True)
        rows.append(attended[:, 0])
    return torch.stack(rows)


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3"])
def test_flash_attention_gets_each_slot_with_its_length_and_window(
    architecture: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompts are longer than the window of 48 tokens of Gemma's layers."""
    model = load(locate(str(model_folder(architecture))), "float32")
    contexts, stops = contexts_and_stops()
    expected = generate(model, contexts, 24, stops)
    monkeypatch.setattr(slots, "flash_decode", flash_reference)
    monkeypatch.setattr(decoding, "usable", lambda *_, **__: True)
    monkeypatch.setattr(slot_decoding, "MOST_SLOTS", 3)
    model.decoding = None
    assert generate(model, contexts, 24, stops) == expected
    assert model.decoding == Decoding.FUSED


def test_other_models_are_decoded_as_before(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slots.usable(tiny, fused=False)
    tiny.device = torch.device("cpu", 0)  # as weights on "cuda:0" of a model on "cuda"
    assert slots.usable(tiny, fused=False)
    assert not slots.usable(tiny, fused=True)  # float32, and no GPU
    monkeypatch.setattr(slots, "can_share", lambda _: False)
    assert not slots.usable(tiny, fused=False)
    assert proven_decoding(tiny) == Decoding.BATCHED
    monkeypatch.undo()
    assert not slots.usable(tiny, fused=False)  # a CPU


def test_there_are_no_more_slots_than_prompts_memory_and_use(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 3 layers of keys and values of 2 heads of 8 numbers of 4 bytes
    assert slots.bytes_per_token(tiny) == 3 * 2 * 2 * 8 * 4
    memory = type("Memory", (), {"available": 2 * 384 * 100 * 20})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    counts = [slot_decoding._slot_count(tiny, n_prompts, 100) for n_prompts in (1, 9, 40)]
    assert counts == [8, 16, 20]
    assert slot_decoding._slot_count(tiny, 1000, 10) == 200
    assert slot_decoding._slot_count(tiny, 1000, 1) == slot_decoding.MOST_SLOTS


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3", *MIXTURES])
def test_a_step_asks_the_device_for_no_number(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    """With tensors that have no values, a step that waited for one would fail: no graph then."""
    whole = load(locate(str(model_folder(architecture))), "float32")
    heads = slots.cached_heads(whole)
    with FakeTensorMode(), torch.inference_mode():
        network = transformers.AutoModelForCausalLM.from_config(
            CONFIGS[architecture](), dtype=torch.bfloat16
        )
        model = replace(whole, network=network.eval(), dtype=torch.bfloat16, cached_heads=heads)
        held = slots.Slots(model, 4, 64)
        held.step()
        assert held.logits_SV.shape == (4, 512)
