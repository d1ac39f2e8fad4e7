"""LoRA on attention, on all linear layers and on experts, in dense models and mixtures."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import CONFIGS, probe
from tiny_training import RECIPE, answers, train_tiny

from isogloss import tracking
from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ConfigError
from isogloss.models.adapter_files import CONFIG
from isogloss.models.adapters import attach, detach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.lora import lora_config, weights_per_rank
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.training_inputs import recipe_of
from isogloss.tracking.resume import work_root

MIXTURES = ("deepseek_v3", "mixtral", "qwen3_moe")
GROUPS = ("all-linear", "attention", "all-linear+experts", "attention+experts")
# Steps that are large enough for a gain within a few of them.
FAST = replace(RECIPE, steps=20, eval_every=20, learning_rate=3e-2, rank=4, alpha=8)


def load_tiny(architecture: str, model_folder: Callable[[str], Path]) -> LanguageModel:
    return load(locate(str(model_folder(architecture))), "float32")


def trainable_shapes(
    model: LanguageModel, target_modules: str, rank: int = 2
) -> dict[str, torch.Size]:
    """Shapes of the trainable weights, by the base weight; the model is left unchanged."""
    from peft import get_peft_model

    config = lora_config(model.network, target_modules, rank, 4, 0.0)
    peft_model = get_peft_model(model.network, config)
    shapes = {
        name.removeprefix("base_model.model.model.").replace(".default.weight", ""): weight.shape
        for name, weight in peft_model.named_parameters()
        if weight.requires_grad
    }
    peft_model.unload()
    return shapes


@pytest.mark.parametrize("target_modules", [*GROUPS, "q_proj,down_proj"])
@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_moe", "mixtral"])
def test_weights_of_one_rank_are_those_that_peft_adds(
    architecture: str, target_modules: str, model_folder: Callable[[str], Path]
) -> None:
    model = load_tiny(architecture, model_folder)
    if "experts" in target_modules and architecture not in MIXTURES:
        return
    names = target_modules.replace(",down_proj", "") if architecture in MIXTURES else target_modules
    shapes = trainable_shapes(model, names, rank=2)
    config = lora_config(model.network, names, 2, 4, 0.0)
    assert 2 * weights_per_rank(model.network, config) == sum(map(math.prod, shapes.values()))


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_attention_gets_lora_in_every_architecture(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load_tiny(architecture, model_folder)
    expected = {
        name.removeprefix("model.")
        for name, module in model.network.named_modules()
        if ".self_attn." in name and isinstance(module, torch.nn.Linear)
    }
    assert len(expected) >= 12
    shapes = trainable_shapes(model, "attention")
    assert {name.rpartition(".lora_")[0] for name in shapes} == expected


@pytest.mark.parametrize("architecture", MIXTURES)
def test_all_linear_of_a_mixture_has_neither_router_nor_experts(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load_tiny(architecture, model_folder)
    expected = {
        name.removeprefix("model.")
        for name, module in model.network.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    shapes = trainable_shapes(model, "all-linear")
    assert {name.rpartition(".lora_")[0] for name in shapes} == expected
    assert all(2 in shape for shape in shapes.values())  # the rank


@pytest.mark.parametrize("architecture", MIXTURES)
def test_every_expert_has_the_full_rank(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load_tiny(architecture, model_folder)
    experts = model.network.model.layers[1].mlp.experts
    count, twice_inner, outer = experts.gate_up_proj.shape
    with_experts = trainable_shapes(model, "attention+experts")
    without = trainable_shapes(model, "attention")
    assert without.keys() < with_experts.keys()
    in_layer = {
        name: tuple(shape)
        for name, shape in with_experts.items()
        if name not in without and name.startswith("layers.1.")
    }
    assert in_layer == {
        "layers.1.mlp.experts.base_layer.lora_A": (2 * count, outer),
        "layers.1.mlp.experts.base_layer.lora_B": (twice_inner, 2 * count),
        "layers.1.mlp.experts.lora_A": (2 * count, twice_inner // 2),
        "layers.1.mlp.experts.lora_B": (outer, 2 * count),
    }
    linear = trainable_shapes(model, "all-linear")
    assert (
        trainable_shapes(model, "all-linear+experts").keys() == linear.keys() | with_experts.keys()
    )


@pytest.mark.parametrize("target_modules", GROUPS)
@pytest.mark.parametrize("architecture", MIXTURES)
def test_training_leaves_a_mixture_unchanged_and_its_adapter_reloads_exactly(
    architecture: str, target_modules: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_tiny(architecture, model_folder)
    before = answers(model)
    weights = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    log = train_tiny(model, tmp_path / "adapter", replace(FAST, target_modules=target_modules))
    losses = [entry["train/loss"] for entry in log if "train/loss" in entry]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    after = model.network.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert answers(model) == before
    first = answers(model, attach(model, tmp_path / "adapter" / "last"))
    again = load_tiny(architecture, model_folder)
    second = answers(again, attach(again, tmp_path / "adapter" / "last"))
    assert first == second != before
    assert answers(model, None) == before
    detach(model)
    assert answers(model) == before


@pytest.mark.parametrize("architecture", MIXTURES)
def test_each_adapter_takes_the_place_of_the_one_before(
    architecture: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_tiny(architecture, model_folder)
    base = answers(model)
    expected = {}
    for seed, targets in enumerate(("attention+experts", "attention", "all-linear+experts")):
        folder = tmp_path / str(seed)
        recipe = replace(RECIPE, learning_rate=3e-2, seed=seed, target_modules=targets)
        train_tiny(model, folder, recipe)
        expected[folder / "last"] = answers(model, attach(model, folder / "last"))
        detach(model)
    assert len({str(values) for values in expected.values()}) == 3
    for folder in [*expected, *reversed(expected)]:
        assert answers(model, attach(model, folder)) == expected[folder]
        assert answers(model) == base
        assert len(model.adapters) == 1


@pytest.mark.parametrize(
    ("architecture", "target_modules", "dropout", "message"),
    [
        ("llama", "attention+experts", 0.0, "llama has no experts; expected attention"),
        ("mixtral", "attention+experts", 0.1, "dropout must be 0 .* got 0.1"),
        ("deepseek_v3", "all-linear", 0.1, "dropout must be 0"),
        ("mixtral", "w1,w2,w3", 0.1, "dropout must be 0"),
        ("mixtral", "q_proj+experts", 0.0, "unknown target_modules 'q_proj.experts'"),
        ("mixtral", "attention+routers", 0.0, "unknown target_modules"),
        ("llama", "nowhere", 0.0, r"llama has no linear module 'nowhere'; .* modules \(.*q_proj"),
        ("llama", "input_layernorm", 0.0, "llama has no linear module 'input_layernorm'"),
        ("llama", "q_proj,foo", 0.0, "llama has no linear module 'foo'"),
        ("mixtral", "q_proj,foo", 0.0, "mixtral has no linear module 'foo'"),
    ],
)
def test_targets_that_cannot_have_lora_are_rejected(
    architecture: str,
    target_modules: str,
    dropout: float,
    message: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    model = load_tiny(architecture, model_folder)
    before = answers(model)
    recipe = replace(RECIPE, target_modules=target_modules, dropout=dropout)
    with pytest.raises(ConfigError, match=message):
        train_tiny(model, tmp_path / "adapter", recipe)
    assert answers(model) == before


def test_all_linear_of_a_dense_model_is_left_to_peft(
    tiny: LanguageModel,
) -> None:
    config = lora_config(tiny.network, "all-linear", 2, 4, 0.1)
    assert (config.target_modules, config.target_parameters) == ("all-linear", None)
    names = lora_config(tiny.network, "q_proj,v_proj", 2, 4, 0.1)
    assert sorted(names.target_modules) == ["q_proj", "v_proj"]


def test_an_adapter_on_experts_is_evaluated_and_served_with_the_same_answers(
    model_folder: Callable[[str], Path],
) -> None:
    options = {"model": str(model_folder("qwen3_moe")), "dtype": "float32", "format": "cloze"}
    session = Session(options["model"], "float32")
    config = FinetuneConfig(
        **options, steps=2, batch_size=4, limit=8, dev_limit=4, rank=2, learning_rate=0.03,
        target_modules="attention+experts",
    )  # fmt: skip
    uri = finetune(config, session).data.tags["isogloss.adapter_uri"]
    evaluation = EvaluateConfig(**options, languages=("heb_Hebr",), limit=4)
    with adapter_folder(uri) as folder:
        assert "target_parameters" in (folder / CONFIG).read_text()
        run = evaluate(evaluation, session, adapter=AdapterRef.in_folder(folder))
    assert "attention+experts" in run.data.tags["isogloss.recipe"]
    evaluated = tracking.read_predictions(run.info.run_id)
    questions = [
        {
            "passage": item.passage,
            "question": item.question,
            "options": list(item.options),
            "language": item.language,
        }
        for item in probe("heb_Hebr", "test", 4)
    ]
    served = mlflow.pyfunc.load_model(uri).predict(questions)
    assert served["choice"].tolist() == evaluated["prediction"].tolist()
    lengths_RC = [[len(option) for option in question["options"]] for question in questions]
    score_RC = np.array(evaluated["choice_logprobs"].tolist()) / lengths_RC
    expected = np.exp(score_RC - np.logaddexp.reduce(score_RC, axis=1, keepdims=True))
    assert np.array(served["probabilities"].tolist()) == pytest.approx(expected, abs=1e-12)


def test_experts_with_dropout_are_rejected_before_anything_is_loaded() -> None:
    config = FinetuneConfig(target_modules="attention+experts", dropout=0.05)
    with pytest.raises(ConfigError, match=r"dropout must be 0 .* got 0\.05"):
        recipe_of(config)


def test_a_rejected_recipe_leaves_no_run_and_no_folder(
    model_folder: Callable[[str], Path],
) -> None:
    folder = str(model_folder("llama"))
    config = FinetuneConfig(model=folder, dtype="float32", target_modules="q_proj,foo")
    with pytest.raises(ConfigError, match="llama has no linear module 'foo'"):
        finetune(config, Session(folder, "float32"))
    assert mlflow.search_runs(search_all_experiments=True).empty
    assert not list(work_root().glob("finetune-*"))
