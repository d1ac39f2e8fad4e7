"""Models in 4-bit NormalFloat: weights, training, serving and what is rejected."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import mlflow
import pytest
import torch
from conftest import CONFIGS, probe
from tiny_training import RECIPE, answers, train_tiny
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from isogloss.config import FinetuneConfig
from isogloss.costs.memory import NF4_BYTES, Precision, weight_bytes
from isogloss.errors import ConfigError, ModelError
from isogloss.inference.predict import predict
from isogloss.models import dtypes
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.shapes import shape_from_config
from isogloss.prompts.protocol import Protocol
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session

LETTER = Protocol("letter")
FAST = replace(RECIPE, steps=20, eval_every=20, learning_rate=3e-2, rank=4, alpha=8)

needs_bitsandbytes = pytest.mark.skipif(
    not dtypes.bitsandbytes_installed(), reason="bitsandbytes (extra qlora) is not installed"
)


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
def test_nf4_quantises_weights_and_gradients_pass_through_them(
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
            original = plain.network.get_submodule(name).weight
            assert 0 < float((weight - original).norm() / original.norm()) < 0.15
            original.data.copy_(weight)
    assert quantised == 21
    plain.network.to(torch.bfloat16)
    answers(model)  # a pass without gradients before, as in training
    tokens = torch.randint(0, 512, (2, 24), generator=torch.Generator().manual_seed(0))
    gradients = []
    for variant in (model, plain):
        states = variant.network.get_input_embeddings()(tokens).detach().requires_grad_(True)
        with variant.autocast():
            loss = variant.network(inputs_embeds=states, labels=tokens).loss
        loss.backward()
        gradients.append(states.grad.float().flatten())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("architecture", "target_modules"),
    [("llama", "all-linear"), ("gemma3", "attention"), ("qwen3_moe", "attention+experts")],
)
def test_training_in_nf4_leaves_the_base_unchanged_and_its_adapter_reloads_exactly(
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
    assert predict(again, probe("eng_Latn", "test", 4), LETTER, "probe")


@needs_bitsandbytes
@pytest.mark.parametrize("architecture", ["qwen3_moe", "llama"])
def test_the_log_says_how_much_nf4_leaves_unquantised(
    architecture: str, wide_folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    location = locate(str(wide_folder(architecture)))
    weights = dict(load(location, "bfloat16").network.named_parameters())
    with caplog.at_level("INFO", "isogloss.models.loading"):
        model = load(location, "nf4")
    quantised = sum(
        weights[f"{name}.weight"].numel()
        for name, module in model.network.named_modules()
        if type(module).__name__ == "Linear4bit"
    )
    total = sum(weight.numel() for weight in weights.values())
    experts = sum(weight.numel() for name, weight in weights.items() if ".experts." in name)
    # 4 bits and an 8-bit constant for each block of 64
    memory = 2 * (total - quantised) + quantised * (4 + 8 / 64) / 8
    (record,) = [record for record in caplog.records if "nf4 leaves" in record.message]
    said = f"nf4 leaves {1 - quantised / total:.0%} of the weights in bfloat16; all weights take "
    assert f"{said}{memory / 1e9:.2f} GB." in f"{record.message}."
    assert record.levelname == ("WARNING" if experts else "INFO")
    assert (f" {experts / total:.0%} are experts" in record.message) == (experts > 0)
    # The cost model leaves the same weights as they are.
    shape = shape_from_config(model.network.config.to_dict())
    saved = weight_bytes(shape, Precision.BFLOAT16) - weight_bytes(shape, Precision.NF4)
    assert saved / (2 - NF4_BYTES) == pytest.approx(quantised, rel=1e-9)


@needs_bitsandbytes
def test_nf4_is_part_of_the_fingerprint_and_is_served(wide_folder: Callable[[str], Path]) -> None:
    options = {"model": str(wide_folder("llama")), "format": "cloze"}
    training = {"steps": 2, "batch_size": 4, "limit": 8, "dev_limit": 4, "rank": 2}
    runs = {}
    for dtype in ("bfloat16", "nf4"):
        config = FinetuneConfig(**options, **training, dtype=dtype)
        runs[dtype] = finetune(config, Session.of(config))
        assert runs[dtype].data.tags["isogloss.dtype"] == dtype
    fingerprints = {run.data.tags["isogloss.fingerprint"] for run in runs.values()}
    assert len(fingerprints) == 2
    uri = runs["nf4"].data.tags["isogloss.adapter_uri"]
    requirements = mlflow.pyfunc.get_model_dependencies(uri)
    assert "bitsandbytes==" in Path(requirements).read_text()
    item = probe("eng_Latn", "test", 1)[0]
    row = {name: asdict(item)[name] for name in ("passage", "question", "language")}
    served = mlflow.pyfunc.load_model(uri)
    assert served.unwrap_python_model().adapter_model.model.dtype_name == "nf4"
    answers = served.predict([{**row, "options": list(item.options)}])
    assert sum(answers["probabilities"][0]) == pytest.approx(1)


@needs_bitsandbytes
def test_all_linear_of_a_mixture_is_rejected_in_nf4(
    wide_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load(locate(str(wide_folder("qwen3_moe"))), "nf4")
    with pytest.raises(ConfigError, match=r"whole weights \(.*down_proj.* but dtype is 'nf4'"):
        train_tiny(model, tmp_path / "adapter")


def test_nf4_without_bitsandbytes_names_the_package_to_install(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtypes, "bitsandbytes_installed", lambda: False)
    with pytest.raises(ModelError, match=r"pip install bitsandbytes"):
        load(tiny.location, "nf4")


@needs_bitsandbytes
def test_nf4_on_a_cpu_rejects_widths_that_bitsandbytes_computes_wrongly(
    model_folder: Callable[[str], Path],
) -> None:
    with pytest.raises(ModelError, match=r"layers with 32 inputs; .* a multiple of 64"):
        load(locate(str(model_folder("llama"))), "nf4")
