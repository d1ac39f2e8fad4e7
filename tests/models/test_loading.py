"""Loading a model as a GPU would have it: bfloat16 or 4-bit weights, device maps, attention."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import torch
from accelerate import dispatch_model, infer_auto_device_map
from conftest import CONFIGS, probe
from peft import get_peft_model
from tiny_training import RECIPE, answers, train_tiny
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ConfigError, ModelError
from isogloss.inference.predict import predict
from isogloss.models import dtypes, loading
from isogloss.models.adapters import attach
from isogloss.models.dtypes import resolve_dtype, weights_dtype
from isogloss.models.forward import can_share
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.lora import lora_config
from isogloss.models.memory import training_token_budget
from isogloss.prompts.protocol import Protocol
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LETTER = Protocol("letter")
FAST = replace(RECIPE, steps=20, eval_every=20, learning_rate=3e-2, rank=4, alpha=8)
# Of a tiny model of three layers. What is on disk is loaded at each pass, as to a GPU without room.
ACROSS = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}

needs_bitsandbytes = pytest.mark.skipif(
    not dtypes.bitsandbytes_installed(), reason="bitsandbytes (extra qlora) is not installed"
)


def a_gpu(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat16)


def letters(model: LanguageModel) -> list[list[float]]:
    found = predict(model, probe("eng_Latn", "test", 4), LETTER, "probe")
    return [prediction.choice_logprobs for prediction in found]


@pytest.mark.parametrize(
    ("bfloat16", "dtype", "products", "weights"),
    [
        (True, "auto", torch.bfloat16, torch.bfloat16),
        (True, "float32", torch.float32, torch.float32),
        (True, "nf4", torch.bfloat16, torch.bfloat16),
        (False, "auto", torch.float32, torch.float32),
    ],
)
def test_on_a_gpu_weights_have_the_dtype_of_products(
    bfloat16: bool,
    dtype: str,
    products: torch.dtype,
    weights: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_gpu(monkeypatch, bfloat16)
    assert resolve_dtype(dtype) == products
    assert weights_dtype(dtype, CUDA) == weights


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_cpu_weights_are_float32(dtype: str) -> None:
    assert weights_dtype(dtype, CPU) == torch.float32


@pytest.mark.parametrize("target_modules", ["all-linear", "attention+experts"])
def test_with_bfloat16_weights_lora_is_trained_and_read_back_in_float32(
    target_modules: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = locate(str(model_folder("qwen3_moe")))
    monkeypatch.setattr(loading, "weights_dtype", lambda dtype, device: torch.bfloat16)
    model = load(location, "bfloat16")
    assert {weight.dtype for weight in model.network.parameters()} == {torch.bfloat16}
    trained = get_peft_model(model.network, lora_config(model.network, target_modules, 2, 4, 0.0))
    wanted = {weight.dtype for weight in trained.parameters() if weight.requires_grad}
    assert wanted == {torch.float32}
    trained.unload()
    before = answers(model)
    log = train_tiny(model, tmp_path / "adapter", replace(FAST, target_modules=target_modules))
    losses = [entry["train/loss"] for entry in log if "train/loss" in entry]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert answers(model) == before
    first = answers(model, attach(model, tmp_path / "adapter" / "last"))
    loras = [weight for name, weight in model.network.named_parameters() if ".lora_" in name]
    assert {weight.dtype for weight in loras} == {torch.float32}
    again = load(location, "bfloat16")
    assert answers(again, attach(again, tmp_path / "adapter" / "last")) == first != before


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_the_one_asked_for_and_gives_the_same_answers(
    attention: str, tiny: LanguageModel
) -> None:
    assert tiny.network.config._attn_implementation == "sdpa"
    model = load(tiny.location, "float32", attention)
    assert model.network.config._attn_implementation == attention
    for found, expected in zip(answers(model), answers(tiny), strict=True):
        assert found == pytest.approx(expected, abs=2e-4)


def test_with_flash_attention_each_sequence_stands_alone(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_share(tiny)
    tiny.shares = None
    # The name alone: the computation itself needs a GPU.
    monkeypatch.setattr(type(tiny.network.config), "_attn_implementation", "flash_attention_2")
    assert not can_share(tiny)


def test_flash_attention_is_refused_where_it_cannot_be_had(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="flash-attn is not installed or there is no GPU"):
        load(tiny.location, "bfloat16", "flash_attention_2")
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_2_available", lambda: True)
    with pytest.raises(ModelError, match="needs dtype bfloat16"):
        load(tiny.location, "float32", "flash_attention_2")


def test_attention_decides_a_run_only_where_it_is_asked_for(
    model_folder: Callable[[str], Path],
) -> None:
    asked = {"model": str(model_folder("llama")), "dtype": "float32", "languages": ("eng_Latn",)}
    runs = {}
    for attention in ("auto", "eager", "sdpa"):
        config = EvaluateConfig(**asked, limit=2, attention=attention)
        runs[attention] = evaluate(config, Session.of(config))
    assert len({run.info.run_id for run in runs.values()}) == 3
    tags = {name: run.data.tags.get("isogloss.attention") for name, run in runs.items()}
    assert tags == {"auto": None, "eager": "eager", "sdpa": "sdpa"}
    assert runs["auto"].data.params["attention"] == "auto"
    assert Session("embedded", "float32").numerics == {"dtype": "float32"}
    assert Session("embedded", "nf4", "sdpa").numerics == {"dtype": "nf4", "attention": "sdpa"}
    # Where layers lie changes no number: the run is found again.
    config = EvaluateConfig(**asked, limit=2, device_map="auto")
    assert evaluate(config, Session.of(config)).info.run_id == runs["auto"].info.run_id


def across(model: LanguageModel, folder: Path) -> LanguageModel:
    """The model with some layers on disk and a hook of accelerate's on each module."""
    places = dict(ACROSS)
    if model.network.config.tie_word_embeddings:
        places["lm_head"] = places["model.embed_tokens"]
    dispatch_model(model.network, places, offload_dir=folder, force_hooks=True)
    assert model.offloaded
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_layers_and_head_may_be_anywhere(
    architecture: str, dtype: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(model_folder(architecture)))
    here = load(location, dtype)
    assert not here.offloaded
    there = across(load(location, dtype), tmp_path)
    assert there.network.get_output_embeddings().weight.is_meta == (architecture != "gemma3")
    assert answers(there) == answers(here)
    assert letters(there) == letters(here)
    assert not any(weight.requires_grad for weight in there.network.parameters())


def test_with_an_automatic_map_an_adapter_trains_as_on_one_device(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(model_folder("llama")))
    here, spread = load(location, "float32"), load(location, "float32", device_map="auto")
    logs = [
        train_tiny(model, tmp_path / str(number)) for number, model in enumerate((here, spread))
    ]
    assert logs[0] == logs[1]
    for folder in ("0", "1"):
        first, second = (
            answers(model, attach(model, tmp_path / folder / "last")) for model in (here, spread)
        )
        assert first == second


def test_layers_that_are_elsewhere_have_no_adapter(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(model_folder("llama")))
    here, there = load(location, "float32"), load(location, "float32", device_map=ACROSS)
    assert there.device == CPU
    assert answers(there) == answers(here)
    with pytest.raises(ConfigError, match="cannot be trained"):
        train_tiny(there, tmp_path / "refused")
    train_tiny(here, tmp_path / "adapter")
    with pytest.raises(ModelError, match="cannot have an adapter"):
        attach(there, tmp_path / "adapter" / "last")
    assert answers(there) == answers(here)


def test_seventy_billion_weights_get_lora_checkpointing_and_a_device_map_without_memory() -> None:
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        assert sum(weight.numel() for weight in network.parameters()) == 70_553_706_496
        peft_model = get_peft_model(network, lora_config(network, "all-linear", 16, 32, 0.05))
        network.activation_checkpointing_enable()
    trained = {name: w for name, w in peft_model.named_parameters() if w.requires_grad}
    hidden, inner, keys = 8192, 28672, 1024
    ends = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden)]
    ends += [(hidden, inner), (hidden, inner), (inner, hidden)]
    expected = 80 * 16 * sum(into + out for into, out in ends)
    assert sum(weight.numel() for weight in trained.values()) == expected
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    layers = network.model.layers
    assert all(layer.gradient_checkpointing for layer in layers)
    places = infer_auto_device_map(
        network,
        max_memory={0: "80GiB", 1: "80GiB"},
        no_split_module_classes=network._no_split_modules,
    )
    assert set(places.values()) == {0, 1}
    assert places["lm_head"] == 1
    on_first = {places[f"model.layers.{number}"] for number in range(20)}
    assert on_first == {0}


@pytest.fixture(scope="session")
def wide_folder(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """As `model_folder`, with widths that are multiples of 64, the size of a block in nf4."""
    root = tmp_path_factory.mktemp("wide")

    def folder(architecture: str) -> Path:
        path = root / architecture
        if not path.is_dir():
            config = CONFIGS[architecture]()
            widths = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
            config = type(config)(**{**config.to_dict(), **widths, "initializer_range": 0.2})
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(path)
            tokenizer.save_pretrained(path)
        return path

    return folder


@needs_bitsandbytes
def test_nf4_is_the_quantised_model_and_gradients_are_those_of_its_weights(
    wide_folder: Callable[[str], Path],
) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    location = locate(str(wide_folder("llama")))
    model, plain = load(location, "nf4"), load(location, "bfloat16")
    assert model.dtype_name == "nf4"
    quantised = 0
    for name, module in model.network.named_modules():
        if isinstance(module, Linear4bit):
            quantised += 1
            state = module.weight.quant_state
            assert (state.quant_type, state.nested) == ("nf4", True)
            weight = dequantize_4bit(module.weight.data, state).float()
            other = plain.network.get_submodule(name).weight
            assert 0 < float((weight - other).norm() / other.norm()) < 0.15
            other.data.copy_(weight)
    assert quantised == 21
    plain.network.to(torch.bfloat16)
    answers(model)  # a pass without gradients before, as in training
    tokens = torch.randint(0, 512, (2, 24), generator=torch.Generator().manual_seed(0))
    gradients = []
    for one in (model, plain):
        states = one.network.get_input_embeddings()(tokens).detach().requires_grad_(True)
        with one.autocast():
            loss = one.network(inputs_embeds=states, labels=tokens).loss
        loss.backward()
        gradients.append(states.grad.float().flatten())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("architecture", "target_modules"),
    [("llama", "all-linear"), ("gemma3", "attention"), ("qwen3_moe", "attention+experts")],
)
def test_nf4_trains_in_float32_reloads_exactly_and_is_left_as_it_was(
    architecture: str, target_modules: str, wide_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(wide_folder(architecture)))
    model = load(location, "nf4")
    before = answers(model)
    weights = {name: weight.clone() for name, weight in model.network.named_parameters()}
    log = train_tiny(model, tmp_path / "adapter", replace(FAST, target_modules=target_modules))
    losses = [entry["train/loss"] for entry in log if "train/loss" in entry]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    for name, weight in model.network.named_parameters():
        assert weight.dtype == weights[name].dtype
        assert torch.equal(weight, weights[name])
    assert answers(model) == before
    first = answers(model, attach(model, tmp_path / "adapter" / "last"))
    loras = [weight for name, weight in model.network.named_parameters() if ".lora_" in name]
    assert {weight.dtype for weight in loras} == {torch.float32}
    again = load(location, "nf4")
    assert answers(again, attach(again, tmp_path / "adapter" / "last")) == first != before
    assert letters(again)


@needs_bitsandbytes
def test_nf4_is_told_apart_in_runs_and_served(wide_folder: Callable[[str], Path]) -> None:
    asked = {"model": str(wide_folder("llama")), "format": "cloze"}
    training = {"steps": 2, "batch_size": 4, "limit": 8, "dev_limit": 4, "rank": 2}
    tuned = {}
    for dtype in ("bfloat16", "nf4"):
        config = FinetuneConfig(**asked, **training, dtype=dtype)
        tuned[dtype] = finetune(config, Session.of(config))
        assert tuned[dtype].data.tags["isogloss.dtype"] == dtype
    fingerprints = {run.data.tags["isogloss.fingerprint"] for run in tuned.values()}
    assert len(fingerprints) == 2
    uri = tuned["nf4"].data.tags["isogloss.adapter_uri"]
    required = mlflow.pyfunc.get_model_dependencies(uri)
    assert "bitsandbytes==" in Path(required).read_text()
    item = probe("eng_Latn", "test", 1)[0]
    row = {name: asdict(item)[name] for name in ("passage", "question", "language")}
    reader = mlflow.pyfunc.load_model(uri)
    assert reader.unwrap_python_model().adapter_model.model.dtype_name == "nf4"
    served = reader.predict([{**row, "options": list(item.options)}])
    assert sum(served["probabilities"][0]) == pytest.approx(1)


@needs_bitsandbytes
def test_all_linear_of_a_mixture_that_needs_whole_weights_is_refused_in_nf4(
    wide_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load(locate(str(wide_folder("qwen3_moe"))), "nf4")
    with pytest.raises(ConfigError, match=r"whole weights \(.*down_proj.* but dtype is 'nf4'"):
        train_tiny(model, tmp_path / "adapter")


def test_nf4_without_bitsandbytes_says_what_to_install(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtypes, "bitsandbytes_installed", lambda: False)
    with pytest.raises(ModelError, match=r"pip install bitsandbytes"):
        load(tiny.location, "nf4")


@needs_bitsandbytes
def test_nf4_on_a_cpu_refuses_widths_that_come_out_wrong(
    model_folder: Callable[[str], Path],
) -> None:
    with pytest.raises(ModelError, match=r"layers of 32 inputs; .* a multiple of 64"):
        load(locate(str(model_folder("llama"))), "nf4")


def test_the_faster_dtype_is_measured_once_a_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    seconds = {torch.float32: 2.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(dtypes, "_product_seconds", seconds.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_dtype("auto") == torch.bfloat16
    seconds[torch.bfloat16] = 3.0  # a busy moment, or another one
    assert resolve_dtype("auto") == torch.bfloat16
    next(tmp_path.glob("dtype-*.txt")).unlink()
    assert resolve_dtype("auto") == torch.float32


def test_a_training_pass_is_as_long_as_a_quarter_of_all_memory_holds(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total=4 * 10**6)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    config = tiny.network.config
    layer = 4 * (4 * config.intermediate_size + 8 * config.hidden_size)
    between = 4 * config.hidden_size * config.num_hidden_layers
    kept = config.num_hidden_layers * layer + between
    assert training_token_budget(tiny) == 10**6 // kept
    assert training_token_budget(tiny, checkpointing=True) == 10**6 // (layer + between)
    memory.total = 1
    assert training_token_budget(tiny) == 1
    memory.total = 10**12
    assert training_token_budget(tiny) == 2048
