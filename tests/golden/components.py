"""What each component of isogloss computes from fixed inputs: the outputs that `COMPONENT.json` holds.

Models have fixed weights and a tokenizer of bytes, so that neither random numbers nor a training of
the tokenizer decides the outputs. Everything is computed in float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from synthetic_predictions import study
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation
from isogloss.predictions.metrics import evaluation_metrics, token_metrics
from isogloss.predictions.table import Prediction, frame
from isogloss.prompts.answer_parser import PARSER_VERSION
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION
from isogloss.report.content import report_content
from isogloss.report.markdown import markdown
from isogloss.tasks import probe
from isogloss.tasks.items import Item
from isogloss.tracking import data_digest
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe
from isogloss.types import Format, Normalisation, Reasoning
from isogloss.version import (
    GENERATION_VERSION,
    METRICS_VERSION,
    PROBE_VERSION,
    REPORT_VERSION,
    SCORING_VERSION,
    STATISTICS_VERSION,
    TRAINING_VERSION,
)

Outputs = dict[str, Any]  # JSON
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SIZE = {
    "vocab_size": len(BYTES) + 2, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257, "max_position_embeddings": 4096,
}  # fmt: skip
CONFIGS = {
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SIZE,
        sliding_window=48,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "llama": lambda: transformers.LlamaConfig(**SIZE),
}
ITEMS = [
    Item("i1", "p1", "eng_Latn", "Tom has a red cat and a dog.", "What is red?",
         ("the cat", "the dog", "Tom", "nothing at all"), 0),
    Item("i2", "p1", "eng_Latn", "Tom has a red cat and a dog.", "Who has a cat?",
         ("nobody", "the dog", "Tom", "Ann"), 2),
    Item("i1", "p1", "heb_Hebr", "לתום יש חתול אדום וכלב.", "מה אדום?",
         ("החתול", "הכלב", "תום", "דבר"), 0),
]  # fmt: skip


@dataclass(frozen=True)
class Component:
    """A part of isogloss: its own version, all versions that decide the outputs, the outputs."""

    constant: str
    versions: Mapping[str, str]
    outputs: Callable[[], Outputs]


def tiny_model(architecture: str) -> LanguageModel:
    """A model of 30,000 weights that are the same everywhere."""
    with TemporaryDirectory() as folder:
        network = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
        numbers = np.random.RandomState(0)  # its numbers are the same in every version of NumPy
        with torch.no_grad():
            for name, weight in sorted(network.named_parameters()):
                spread = 0.3 if weight.dim() > 1 else 0.1
                weight.copy_(torch.from_numpy(numbers.normal(0, spread, weight.shape)))
                if "norm" in name and architecture == "llama":
                    weight.add_(1)  # Gemma adds 1 to the weights of its norms
        network.save_pretrained(folder)
        vocabulary = {token: number for number, token in enumerate([*BYTES, "<bos>", "<eos>"])}
        tokenizer = Tokenizer(models.BPE(vocabulary, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
        ).save_pretrained(folder)
        return load(ModelLocation(architecture, Path(folder), "golden"), "float32")


def _predictions(model: LanguageModel, protocol: Protocol) -> list[Outputs]:
    return [row(prediction) for prediction in predict(model, ITEMS, protocol, "golden")]


def row(prediction: Prediction) -> dict[str, Any]:
    """A prediction as predictions.parquet has it: `bounded` is of servers alone."""
    return {name: value for name, value in asdict(prediction).items() if name != "bounded"}


def probe_outputs() -> Outputs:
    """A digest of all items of each language, and one item of each."""
    outputs = {}
    for code in probe.languages():
        every = [item for split in probe.PASSAGES for item in probe.load(code, split)]
        outputs[code] = {
            "items": len(every),
            "sha256": data_digest(every),
            "first": asdict(every[0]),
        }
    return outputs


def scoring_outputs() -> Outputs:
    """Predictions of two models by letter, and by cloze with each normalisation."""
    protocols = {"letter": Protocol(Format.LETTER)} | {
        f"cloze {normalisation}": Protocol(Format.CLOZE, normalisation)
        for normalisation in Normalisation
    }
    return {
        f"{architecture}, {name}": _predictions(model, protocol)
        for architecture in CONFIGS
        for model in [tiny_model(architecture)]
        for name, protocol in protocols.items()
    }


def generation_outputs() -> Outputs:
    """Texts of two models, as direct answers and with reasoning, and the predictions from them."""
    protocols = {
        "direct": Protocol(Format.GENERATE, max_new_tokens=12),
        "cot": Protocol(Format.LETTER, reasoning=Reasoning.COT, max_new_tokens=24),
    }
    return {
        f"{architecture}, {name}": _predictions(model, protocol)
        for architecture in CONFIGS
        for model in [tiny_model(architecture)]
        for name, protocol in protocols.items()
    }


def training_outputs() -> Outputs:
    """Metrics of three steps of training, and predictions with the adapter."""
    model = tiny_model("gemma3")
    recipe = Recipe(steps=3, batch_size=2, learning_rate=1e-2, rank=2, alpha=4, eval_every=2)
    log: list[Outputs] = []
    with TemporaryDirectory() as folder:
        job = TrainingJob(
            "golden", ITEMS[:2], ITEMS[2:], Protocol(Format.CLOZE), recipe, Path(folder)
        )
        result = train(model, job, log=lambda step, metrics: log.append({"step": step, **metrics}))
        dev = pd.read_parquet(result.last / "dev_predictions.parquet")
    return {
        "metrics": log,
        "last_step": result.last_step,
        "best_step": result.best_step,
        "dev": [list(map(float, row)) for row in dev["choice_logprobs"]],
    }


def metrics_outputs() -> Outputs:
    """Metrics of predictions by letter, and of tokens."""
    predictions = frame(predict(tiny_model("gemma3"), ITEMS, Protocol(Format.LETTER), "golden"))
    tables = study(1, seeds=1, n=40)
    return {
        "letter": evaluation_metrics(predictions, "arb_Arab") | token_metrics(predictions),
        **{key.condition: evaluation_metrics(table, "arb_Arab") for key, table in tables.items()},
    }


def _comparison() -> Comparison:
    return compare(study(4, n=40), source="arb_Arab")


def statistics_outputs() -> Outputs:
    """Every number of a comparison of four models with two sources, and the verdicts."""
    comparison = _comparison()
    verdicts = claim_verdicts(comparison).by_claim
    return {
        "metrics": comparison_metrics(comparison),
        "verdict": comparison.contrast.verdict,
        "claims": {str(claim): str(verdict) for claim, verdict in verdicts.items()},
    }


def report_outputs() -> Outputs:
    """The report of that comparison in Markdown, by line."""
    content = report_content(_comparison(), ["gains", "contrast"], {}, [("Model",), ("model-0",)])
    return {"markdown": markdown(content).splitlines()}


_SCORING = {"prompts": PROMPT_VERSION, "scoring": SCORING_VERSION}
_STATISTICS = {"statistics": STATISTICS_VERSION}

COMPONENTS = {
    "probe": Component("PROBE_VERSION", {"probe": PROBE_VERSION}, probe_outputs),
    "scoring": Component("SCORING_VERSION", _SCORING, scoring_outputs),
    "generation": Component(
        "GENERATION_VERSION",
        {**_SCORING, "generation": GENERATION_VERSION, "parser": PARSER_VERSION},
        generation_outputs,
    ),
    "training": Component(
        "TRAINING_VERSION", {**_SCORING, "training": TRAINING_VERSION}, training_outputs
    ),
    "metrics": Component(
        "METRICS_VERSION", {**_SCORING, "metrics": METRICS_VERSION}, metrics_outputs
    ),
    "statistics": Component("STATISTICS_VERSION", _STATISTICS, statistics_outputs),
    "report": Component(
        "REPORT_VERSION", {**_STATISTICS, "report": REPORT_VERSION}, report_outputs
    ),
}
