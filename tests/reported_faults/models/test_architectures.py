"""Architectures: every causal model is computed exactly, and every other one is refused at once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
import transformers
from conftest import CONFIGS, SIZE, probe
from safetensors.torch import load_file, save_file
from tiny_training import answers

from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError
from isogloss.inference.decoding import proven_decoding
from isogloss.inference.predict import predict
from isogloss.inference.reference import reference_scores
from isogloss.models import paths
from isogloss.models.architecture import check_architecture
from isogloss.models.forward import hidden_states
from isogloss.models.language_model import Batching, Decoding, Paths
from isogloss.models.lm_head import logits
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation, locate
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.stages.evaluate_adapters import run_evaluate
from scripts.architectures import try_architecture

EXPECTED = {  # scoring, generation
    "gpt2": ("plain", "fast"),
    "mamba": ("plain", "one by one"),
    "gemma3_text": ("fast", "fast"),
    "gpt_neo": ("plain", "fast"),
    "llama4_text": ("plain", "fast"),
    "xglm": ("plain", "fast"),
    "openai-gpt": ("plain", "without a cache"),
    "minimax": ("plain", "one by one"),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_architectures_score_generate_and_train_as_plain_passes_do(
    name: str, tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    outcome = try_architecture(name, tokenizer, tmp_path)
    assert (outcome.scoring, outcome.generation, outcome.lora) == (*EXPECTED[name], "yes")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "which is an encoder"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "which is an encoder"),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}, "is an encoder"),
        ({"model_type": "electra"}, "which is an encoder"),
        ({"model_type": "mbart", "is_encoder_decoder": True}, "an encoder and a decoder"),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            "has no causal language model",
        ),
        ({"model_type": "vit"}, "has no causal language model"),
        ({"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}, "code of its own"),
        ({"model_type": "llama", "num_attention_heads": 7, "hidden_size": 32}, "rejects"),
    ],
)
def test_what_is_no_causal_model_is_refused_before_weights_are_read_or_a_run_is_open(
    settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=reason):
        run_evaluate(EvaluateConfig(model=str(folder), languages=("eng_Latn",), limit=2))
    assert not mlflow.search_runs(search_all_experiments=True, output_format="list")


def test_a_bert_decoder_is_accepted(tmp_path: Path) -> None:
    settings = {"model_type": "bert", "is_decoder": True}
    (tmp_path / "config.json").write_text(json.dumps(settings), "utf-8")
    check_architecture(ModelLocation("decoder", tmp_path, ""))


def saved(
    config: transformers.PreTrainedConfig,
    tokenizer: transformers.PreTrainedTokenizerFast,
    folder: Path,
) -> ModelLocation:
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return locate(str(folder))


def test_a_model_whose_logits_depend_on_later_tokens_is_refused(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = transformers.XLNetConfig(vocab_size=512, d_model=32, n_layer=2, n_head=4, d_inner=64)
    with pytest.raises(ModelError, match=r"\(xlnet\) is not a causal language model"):
        load(saved(config, tokenizer, tmp_path / "xlnet"), "float32")


@pytest.mark.parametrize("change", ["missing", "reshaped"])
def test_a_model_with_weights_that_would_be_random_is_refused(
    change: str,
    tokenizer: transformers.PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    location = saved(CONFIGS["llama"](), tokenizer, tmp_path / "model")
    file = location.folder / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"
    if change == "missing":
        del weights[name]
    else:
        weights[name] = weights[name][:-1].clone()
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=name):
        load(location, "float32")


def test_weights_that_the_model_does_not_use_are_named(
    tokenizer: transformers.PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    location = saved(CONFIGS["llama"](), tokenizer, tmp_path / "model")
    expected = answers(load(location, "float32"))
    assert "does not use" not in caplog.text
    file = location.folder / "model.safetensors"
    save_file({**load_file(file), "model.extra": torch.ones(1)}, file, {"format": "pt"})
    assert answers(load(location, "float32")) == expected
    assert "weights that the model does not use: model.extra" in caplog.text


def test_rescaled_positions_do_not_depend_on_longer_texts_of_the_batch(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    size = {**SIZE, "max_position_embeddings": 64}
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    config = transformers.LlamaConfig(**size, rope_parameters=rope)
    model = load(saved(config, tokenizer, tmp_path / "dynamic"), "float32")
    assert model.paths == Paths(Batching.TREE, apart=True, longest=64)
    rows = [list(range(5, 45)), list(range(7, 127))]
    trees = [TokenTree(), TokenTree()]
    nodes = [tree.insert(row)[-1:] for tree, row in zip(trees, rows, strict=True)]
    with torch.inference_mode():
        together_NV = logits(model, hidden_states(model, trees, nodes))
        alone = [model.network(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
    torch.testing.assert_close(together_NV, torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_prefixes_are_shared_only_in_listed_architectures(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "tree_architectures", lambda: frozenset({"mistral"}))
    model = load(locate(str(model_folder("llama"))), "float32")
    assert model.paths == Paths(Batching.PADDED, apart=True)


@pytest.mark.parametrize("batching", [Batching.PADDED, Batching.SINGLE])
@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_moe"])
def test_whole_passes_give_the_scores_of_the_reference(
    architecture: str, batching: Batching, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    model.paths = replace(model.paths, batching=batching, apart=False)
    items = probe("heb_Hebr", "test", 2)
    for protocol in (Protocol("letter"), Protocol("cloze")):
        predictions = predict(model, items, protocol, "probe")
        for item, prediction in zip(items, predictions, strict=True):
            expected = reference_scores(model, prompt(item, protocol, model.tokenizer))
            assert prediction.choice_logprobs == pytest.approx(expected.loglikelihoods, abs=2e-4)


@pytest.mark.parametrize("decoding", sorted(set(Decoding) - {Decoding.FUSED}))  # needs a GPU
def test_every_decoding_gives_the_same_texts(
    decoding: Decoding, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder("gemma3"))), "float32")
    protocol = Protocol("generate", max_new_tokens=12)
    items = probe("eng_Latn", "test", 3) + probe("heb_Hebr", "test", 1)
    expected = [entry.text for entry in predict(model, items, protocol, "probe")]
    assert proven_decoding(model) == Decoding.BATCHED
    model.decoding = decoding
    assert [entry.text for entry in predict(model, items, protocol, "probe")] == expected
