"""Slots on a GPU: the captured step gives the logits of the step itself and of whole passes.

A machine with a GPU needs nothing but torch, transformers, peft and pytest:
`python -m pytest -q --noconftest -p no:cacheprovider tests/gpu`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from isogloss.compat.torch import flash_decode
from isogloss.inference import generation, slot_decoding
from isogloss.inference.decoding import BATCHES, proven_decoding
from isogloss.inference.generation import generate
from isogloss.models.language_model import Decoding, LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # the versions there are not the pinned ones
]

SIZE = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "max_position_embeddings": 4096,
    "initializer_range": 0.1,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZE),
    "qwen3": lambda: transformers.Qwen3Config(**SIZE),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SIZE, sliding_window=16, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "gemma2": lambda: transformers.Gemma2Config(**SIZE, sliding_window=16),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **SIZE, moe_intermediate_size=64, num_experts=8, num_experts_per_tok=2
    ),
}
LENGTHS = (40, 7, 23, 23, 3, 64, 12, 5, 31, 18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives the folder of a small random model, whose tokens are bytes and pairs."""
    root = tmp_path_factory.mktemp("models")

    def made(architecture: str) -> Path:
        path = root / architecture
        if not path.is_dir():
            torch.manual_seed(0)
            network = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
            network.save_pretrained(path)
            alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
            words = ["<bos>", "<eos>", *alphabet, *(f"Ġ{letter}" for letter in alphabet)]
            vocabulary = {word: index for index, word in enumerate(words[: SIZE["vocab_size"]])}
            tokenizer = Tokenizer(models.BPE(vocabulary, []))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            transformers.PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
            ).save_pretrained(path)
        return path

    return made


def prompts() -> list[list[int]]:
    """Random prompts; two pairs have a common beginning."""
    generator = torch.Generator().manual_seed(1)
    drawn = [
        torch.randint(2, SIZE["vocab_size"], (length,), generator=generator).tolist()
        for length in LENGTHS
    ]
    drawn[2][:20] = drawn[3][:20]
    drawn[9][:12] = drawn[6]
    return drawn


def teacher_forced(
    model: LanguageModel, kind: Decoding, tokens_by_step: list[list[int]]
) -> torch.Tensor:
    """Logits [steps + 1, B, V] of the prompts continued by given tokens."""
    batch = BATCHES[kind](model, prompts(), len(tokens_by_step) + 1)
    steps = [batch.logits().float()]
    for tokens in tokens_by_step:
        batch.append(tokens)
        steps.append(batch.logits().float())
    return torch.stack(steps)


def given_tokens(steps: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    shape = steps, len(LENGTHS)
    return torch.randint(2, SIZE["vocab_size"], shape, generator=generator).tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_steps_give_the_logits_of_batches_and_of_steps_without_a_graph(
    architecture: str, dtype: str, folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(folder(architecture))), dtype)
    with torch.inference_mode():
        kind = proven_decoding(model)
        fused = dtype == "bfloat16" and architecture != "gemma2"  # soft-capped scores
        assert kind == (Decoding.FUSED if fused else Decoding.SLOTS)
        given = given_tokens(24)
        expected = teacher_forced(model, Decoding.UNCACHED, given)
        limit = 1e-3 if dtype == "float32" else 0.1
        captured = teacher_forced(model, kind, given)
        error = relative_error(captured, expected)
        assert error < limit, f"{architecture} {dtype}: {error:.2e}"
        print(f"{architecture} {dtype}: {kind}, graph {model.captures}, error {error:.1e}")
        if model.captures:
            model.captures = False
            plain = teacher_forced(model, kind, given)
            model.captures = True
            assert relative_error(captured, plain) < limit / 10


def relative_error(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """The median over positions."""
    return float(((logits - expected).norm(dim=-1) / expected.norm(dim=-1)).median())


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gemma2"])
def test_dense_models_are_captured(architecture: str, folder: Callable[[str], Path]) -> None:
    model = load(locate(str(folder(architecture))), "bfloat16")
    with torch.inference_mode():
        proven_decoding(model)
    assert model.captures is True


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3"])
def test_texts_are_those_of_batches_whatever_the_number_of_slots(
    architecture: str, folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(folder(architecture))), "float32")
    contexts = [chr(97 + row % 26) * length for row, length in enumerate(LENGTHS * 4)]
    stops = [(lambda text, most=5 + row % 40: len(text) >= most) for row in range(len(contexts))]
    monkeypatch.setattr(generation, "SLOT_DEVICES", set())
    model.decoding = Decoding.BATCHED
    expected = generate(model, contexts, 48, stops)
    monkeypatch.undo()
    model.decoding = None
    for most in (256, 8, 3):
        monkeypatch.setattr(slot_decoding, "MOST_SLOTS", most)
        assert generate(model, contexts, 48, stops) == expected
    assert model.decoding == Decoding.SLOTS


def test_the_cache_is_freed_with_its_slots(folder: Callable[[str], Path]) -> None:
    model = load(locate(str(folder("qwen3"))), "bfloat16")
    contexts = ["a" * 20] * 16
    stops = [lambda _: False] * 16
    generate(model, contexts, 8, stops)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    generate(model, contexts, 8, stops)
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_an_adapter_takes_part_in_captured_steps(folder: Callable[[str], Path]) -> None:
    """A LoRA layer whose weights are not zero changes the logits of a captured step."""
    from peft import LoraConfig, get_peft_model

    model = load(locate(str(folder("qwen3"))), "bfloat16")
    given = given_tokens(4)
    with torch.inference_mode():
        base = teacher_forced(model, proven_decoding(model), given)
    wrapped = get_peft_model(
        model.network, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    )
    assert wrapped is not None
    with torch.inference_mode():
        expected = teacher_forced(model, Decoding.UNCACHED, given)
        model.decoding = None
        tuned = teacher_forced(model, proven_decoding(model), given)
    assert model.captures is True
    assert relative_error(tuned, expected) < 0.1
    assert not torch.allclose(base, tuned)


@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize(("heads", "groups", "size"), [(8, 2, 64), (4, 4, 128), (8, 1, 256)])
def test_flash_attention_of_slots_is_that_of_plain_products(
    heads: int, groups: int, size: int, window: int | None
) -> None:
    count, width = 5, 96
    generator = torch.Generator("cuda").manual_seed(0)
    query, keys, values = (
        torch.randn(*shape, device="cuda", dtype=torch.bfloat16, generator=generator)
        for shape in (
            (count, heads, size), (count, width, groups, size), (count, width, groups, size)
        )
    )  # fmt: skip
    used = torch.tensor([1, 17, 96, 40, 15], device="cuda", dtype=torch.int32)
    starts = width * torch.arange(count + 1, device="cuda", dtype=torch.int32)
    attended = flash_decode(
        query, keys.flatten(0, 1), values.flatten(0, 1), starts, used,
        width=width, scale=size**-0.5, window=window,
    )  # fmt: skip
    for row, length in enumerate(used.tolist()):
        first = max(length - window, 0) if window else 0
        key, value = (tensor[row, first:length].float() for tensor in (keys, values))
        key, value = (tensor.repeat_interleave(heads // groups, 1) for tensor in (key, value))
        scores = torch.einsum("he,whe->hw", query[row].float(), key) * size**-0.5
        expected = torch.einsum("hw,whe->he", scores.softmax(-1), value)
        torch.testing.assert_close(attended[row].float(), expected, atol=2e-2, rtol=2e-2)
