"""Adapters as peft writes them, on a tiny random model with biases, for tests of loading them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from conftest import SIZE
from safetensors.torch import load_file, save_file

from isogloss.inference.scoring import score
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ALL = ["q_proj", "v_proj", "down_proj"]
IDS = list(range(5, 45))
SPLIT = 30  # of IDS are the context, the others the choice


def save_biased_model(folder: Path, tokenizer: transformers.PreTrainedTokenizerFast) -> Path:
    """A tiny Llama whose attention has biases, and whose head is not tied."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZE, attention_bias=True)
    network = transformers.AutoModelForCausalLM.from_config(config)
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight.data, std=0.1)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter(model: Path, folder: Path, method: str = "LORA", **options: Any) -> torch.Tensor:
    """Write an adapter with random weights; return the logits [T, V] of peft's own model on IDS."""
    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    kind = peft.PeftType(method)
    config = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind](task_type="CAUSAL_LM", **options)
    adapted = peft.get_peft_model(network, config)
    torch.manual_seed(1)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = weight.data + 0.2 * torch.randn_like(weight)
    adapted.eval()
    adapted.save_pretrained(folder, save_embedding_layers=False)
    change_config(folder, lambda settings: settings.update(base_model_name_or_path=str(model)))
    with torch.inference_mode():
        return adapted(torch.tensor([IDS])).logits[0]


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit the configuration of an adapter."""
    settings = json.loads((folder / CONFIG).read_text())
    change(settings)
    (folder / CONFIG).write_text(json.dumps(settings))


def change_weights(
    folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor] | None]
) -> None:
    """Rename, replace or (None) remove the tensors of an adapter."""
    changed = [change(key, tensor) for key, tensor in load_file(folder / WEIGHTS).items()]
    save_file(
        {key: tensor.contiguous().clone() for key, tensor in filter(None, changed)},
        folder / WEIGHTS,
    )


def naive(logits_TV: torch.Tensor) -> float:
    """The log-likelihood of the choice, from full logits."""
    logprobs_TV = logits_TV.double().log_softmax(-1)
    return sum(float(logprobs_TV[at - 1, IDS[at]]) for at in range(SPLIT, len(IDS)))


def scored(model: LanguageModel, digest: str | None) -> float:
    """The log-likelihood of the choice as isogloss scores it, with an adapter or without."""
    item = Item("1", "1", "eng_Latn", "", "?", ("a", "b"), 0)
    with model.using(digest):
        (scores,) = score(model, [EncodedPrompt([IDS], [SPLIT])], [item], share=True)
    return scores.loglikelihoods[0]
