"""The table of architectures: each causal language model of transformers, built tiny and tried.

`python -m scripts.architectures` builds every architecture with random weights, loads it as any
model, scores, generates, trains an adapter and attaches it, compares everything with plain passes
of transformers, and writes docs/reference/architectures.md and the list of architectures whose
prompts may share computation. `--only NAME` tries single ones, `--check` compares a sample with the
table. Windows, chunks and other limits of the tiny models are shorter than their prompts. Sizes
that a family needs otherwise are in scripts/architectures.json.

The page begins with the table of whole studies, from scripts/families.json, whose entries
tests/real/test_families.py finds; `--families` writes it anew.
"""

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from isogloss.errors import IsoglossError, ModelError
from isogloss.inference.decoding import proven_decoding
from isogloss.inference.generation import generate
from isogloss.inference.predict import predict
from isogloss.inference.reference import reference_scores
from isogloss.models import paths
from isogloss.models.adapters import attach
from isogloss.models.architecture import check_architecture
from isogloss.models.language_model import Batching, Decoding, LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation
from isogloss.models.paths import can_share, proven_paths
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.tasks import Item, items, open_task
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe
from isogloss.types import Format, Split

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "reference" / "architectures.md"
TREES = ROOT / "src" / "isogloss" / "models" / "tree_architectures.txt"
FAMILIES = ROOT / "scripts" / "families.json"
OVERRIDES = json.loads((ROOT / "scripts" / "architectures.json").read_text("utf-8"))
SAMPLE = ("gpt2", "mamba", "gemma3_text", "gpt_neo", "llama4_text", "xglm", "mixtral", "minimax")
LAYERS = 4
LONGEST = 1024  # tokens of a prompt, at most
TOLERANCE = 1e-3  # nats, of the log-likelihood of a choice in float32
NEW_TOKENS = 6
# Sizes of tiny models, by the names that configurations have for them.
NAMES_BY_SIZE = {
    LAYERS: "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers "
    "num_blocks encoder_layers num_encoder_layers",
    32: "hidden_size d_model n_embd dim_model emb_dim word_embed_proj_dim embedding_size "
    "embedding_dim input_embedding_size output_embedding_size lru_width attention_hidden_size "
    "hidden_size_per_layer_input router_hidden_size",
    64: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner dff dim_ff "
    "ffn_hidden_size d_inner feed_forward_size intermediate_size_mlp dense_intermediate_size "
    "mamba_intermediate_size",
    16: "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size "
    "shared_intermediate_size moe_shared_expert_intermediate_size expert_ffn_hidden_size "
    "q_lora_rank kv_lora_rank mamba_dt_rank time_step_rank o_lora_rank laurel_rank hc_lowrank "
    "ple_embed_dim num_mel_bins gated_norm_rank adapter_rank",
}
COUNTS = {
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads "
    "encoder_attention_heads attention_heads num_decoder_attention_heads "
    "num_encoder_attention_heads linear_num_value_heads swa_num_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts index_n_heads linear_num_heads",
    2: "num_key_value_heads num_kv_heads linear_num_key_heads swa_num_key_value_heads "
    "num_experts_per_tok num_experts_per_token n_group moe_k moe_topk num_expert_group n_groups "
    "index_topk_blocks zero_expert_num o_groups",
    1: "topk_group num_kv_shared_layers first_k_dense_replace num_dense_layers n_shared_experts "
    "mamba_n_groups",
    8: "head_dim v_head_dim qk_rope_head_dim qk_nope_head_dim index_head_dim linear_key_head_dim "
    "linear_value_head_dim linear_head_dim swa_head_dim dim_head attention_head_size "
    "attention_head_dim kv_channels mamba_d_state state_size ssm_state_size sliding_window "
    "sliding_window_size window_size attention_window_size attention_chunk_size "
    "local_attention_window_len local_attention chunk_size mamba_chunk_size "
    "rotary_dim d_head index_block_size rel_extent d_rel global_head_dim",
    512: "vocab_size vocab_size_per_layer_input encoder_hash_byte_group_vocab "
    "ngram_vocab_size_base",
}
SIZES = {
    name: size
    for table in (NAMES_BY_SIZE, COUNTS)
    for size, names in table.items()
    for name in names.split()
}
BATCHING_NAMES = {
    Batching.TREE: "fast",
    Batching.PADDED: "plain",
    Batching.SINGLE: "plain, one by one",
}
DECODING_NAMES = {
    Decoding.BATCHED: "fast",
    Decoding.CACHED: "one by one",
    Decoding.UNCACHED: "without a cache",
}
LAYER_NAMES = NAMES_BY_SIZE[LAYERS].split()
TOKEN_ID = re.compile(r"(bos|eos|pad|sep|cls|unk|mask|start)_token_id$|mask_index")


@dataclass(frozen=True)
class Outcome:
    """What an architecture does in each step, and why not."""

    name: str
    scoring: str
    generation: str = ""
    lora: str = ""
    reason: str = ""


def tiny_config(name: str) -> PreTrainedConfig:
    """The default configuration of an architecture with the sizes of a tiny model."""
    overrides = OVERRIDES.get(name, {})
    if overrides.get("instead_of_default"):
        sizes = {key: value for key, value in overrides.items() if key != "instead_of_default"}
        return CONFIG_MAPPING[name](**sizes)
    return _shrunk(CONFIG_MAPPING[name](), overrides)


def _shrunk(config: PreTrainedConfig, overrides: dict[str, Any]) -> PreTrainedConfig:
    settings = config.to_dict()
    layers = next((settings[key] for key in LAYER_NAMES if isinstance(settings.get(key), int)), 0)
    sizes: dict[str, Any] = {}  # values of any configuration
    for key, value in settings.items():
        part = getattr(config, key, None) if isinstance(value, dict) else None
        if isinstance(part, PreTrainedConfig):
            own = overrides.get(key, {})
            sizes[key] = _shrunk(part, own if isinstance(own, dict) else {}).to_dict()
            sizes[key].pop("transformers_version", None)
        elif key in SIZES and isinstance(value, int | list) and not isinstance(value, bool):
            sizes[key] = SIZES[key] if value else value
        elif TOKEN_ID.search(key) and value is not None:
            sizes[key] = 0 if key.startswith("bos") else 1
        elif isinstance(value, list) and layers and len(value) == layers:
            kinds = list(dict.fromkeys(value))
            spread = [kinds[at * len(kinds) // LAYERS] for at in range(LAYERS)]
            sizes[key] = spread if len(kinds) <= LAYERS else kinds[:LAYERS]
        elif key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
            sizes[key] = max(value or 0, LONGEST)
        elif key == "use_sliding_window":
            sizes[key] = True
    if settings.get("kv_lora_rank") and "num_key_value_heads" in sizes:
        sizes["num_key_value_heads"] = SIZES["num_attention_heads"]
    sizes |= {key: value for key, value in overrides.items() if not isinstance(value, dict)}
    return type(config)(**sizes)


@torch.no_grad()
def _enlarge(network: torch.nn.Module) -> None:
    """Larger random weights: with usual ones, attention would hardly change a tiny model.

    Vectors of equal numbers, such as biases of zero, get some variation.
    """
    for weight in network.parameters():
        if weight.dim() > 1 and weight.is_floating_point() and weight.std() < 0.1:
            weight.normal_(0.0, 0.2)
        elif weight.dim() == 1 and weight.numel() > 1 and weight.std() == 0:
            weight.add_(0.2 * torch.randn_like(weight))


def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 512 tokens, trained on the probe."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{it.passage} {it.question}" for it in probe(40)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
    )


def probe(count: int, split: Split = Split.TRAIN) -> list[Item]:
    """The first items of the English probe."""
    return items(open_task("probe", None), "eng_Latn", split, count)


def try_architecture(
    name: str, tokenizer: transformers.PreTrainedTokenizerFast, folder: Path
) -> Outcome:
    """Build, load, score, generate, train and attach; compare with plain passes."""
    try:
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(tiny_config(name))
        _enlarge(network)
        network.save_pretrained(folder)
    except Exception as error:  # whatever an architecture needs that is not here
        return Outcome(name, "not built", reason=_reason(error))
    tokenizer.save_pretrained(folder)
    location = ModelLocation(name, folder, "0" * 40)
    with patch.object(paths, "tree_architectures", lambda: frozenset({name, _model_type(folder)})):
        try:
            check_architecture(location)
            model = load(location, "float32")
        except ModelError as error:
            reason = str(error).removeprefix(f"model {name!r} ").partition("; expected")[0]
            reason = reason.removeprefix(f"({name}) ").rstrip(".")
            return Outcome(name, "refused", reason=reason.replace("|", "/"))
        agrees = _agrees(model)
        if not agrees and can_share(model):
            model.paths = replace(proven_paths(model), batching=Batching.PADDED)
            agrees = _agrees(model)
        scoring = BATCHING_NAMES[proven_paths(model).batching] if agrees else "WRONG"
    lora = _lora(model, folder / "adapter")
    return Outcome(name, scoring, _generation(model), *lora)


def _model_type(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])


def _agrees(model: LanguageModel) -> bool:
    """Whether the choices of a few items have the log-likelihoods of plain passes."""
    for format_, rows in ((Format.LETTER, probe(2, Split.TEST)), (Format.CLOZE, probe(1))):
        protocol = Protocol(format_)
        predictions = predict(model, rows, protocol, "probe")
        for item, prediction in zip(rows, predictions, strict=True):
            expected = reference_scores(model, prompt(item, protocol, model.tokenizer))
            pairs = zip(prediction.choice_logprobs, expected.loglikelihoods, strict=True)
            if not all(abs(value - other) <= TOLERANCE for value, other in pairs):
                return False
    return True


def _generation(model: LanguageModel) -> str:
    contexts = [prompt(item, Protocol(Format.GENERATE)).context for item in probe(3, Split.TEST)]
    contexts[1] = contexts[1][: len(contexts[1]) // 2]
    stops: list[Callable[[str], bool]] = [lambda text: False] * len(contexts)
    texts = [entry.text for entry in generate(model, contexts, NEW_TOKENS, stops)]
    expected = [_greedy(model, context) for context in contexts]
    kind = proven_decoding(model)
    if texts != expected:
        model.decoding = Decoding.UNCACHED
        again = [entry.text for entry in generate(model, contexts, NEW_TOKENS, stops)]
        return f"WRONG ({kind})" if again == expected else "WRONG"
    return DECODING_NAMES[kind]


@torch.inference_mode()
def _greedy(model: LanguageModel, context: str) -> str:
    """Greedy continuation with full logits and without a cache."""
    ids = model.tokenizer([context]).input_ids[0]
    start = len(ids)
    for _ in range(NEW_TOKENS):
        logits_TV = model.network(input_ids=torch.tensor([ids])).logits[0]
        ids.append(int(logits_TV[-1].argmax()))
        if ids[-1] == model.tokenizer.eos_token_id:
            break
    return model.tokenizer.batch_decode([ids[start:]], skip_special_tokens=True)[0]


def _lora(model: LanguageModel, folder: Path) -> tuple[str, str]:
    """Train one step and attach the adapter; say whether scores change and agree."""
    rows = probe(4)
    recipe = Recipe(steps=1, eval_every=1, batch_size=2, rank=2, alpha=4, learning_rate=1e-2)
    job = TrainingJob("probe", rows[:3], rows[3:], Protocol(Format.LETTER), recipe, folder)
    try:
        base = reference_scores(model, prompt(rows[0], Protocol(Format.LETTER), model.tokenizer))
        digest = attach(model, train(model, job).last)
        with model.using(digest):
            tuned = reference_scores(
                model, prompt(rows[0], Protocol(Format.LETTER), model.tokenizer)
            )
            agrees = _agrees(model)
    except IsoglossError as error:
        return "refused", str(error).replace("|", "/")
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return "CRASH", _reason(error)
    if base.loglikelihoods == tuned.loglikelihoods:
        return "WRONG", "the adapter changes nothing"
    return ("yes", "") if agrees else ("WRONG", "")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()).replace("|", "/")
    return f"{type(error).__name__}: {text[:150]}"


def try_all(names: Iterable[str]) -> list[Outcome]:
    """The outcome of each architecture; prints each when it is known."""
    tokenizer = tiny_tokenizer()
    outcomes = []
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcome = try_architecture(name, tokenizer, Path(folder))
        outcomes.append(outcome)
        steps = f"{outcome.scoring} | {outcome.generation} | {outcome.lora} | {outcome.reason}"
        print(f"{name:<28} {time.monotonic() - started:4.1f} s  {steps}", flush=True)
    return outcomes


PAGE = """# Architectures

## Whole studies

Families of models that go through a whole study as tiny random models with the structure of the
real ones and chat templates in their style: base and tuned, both with chain of thought, compared.
`tests/real/test_families.py` runs the studies and finds each entry of this table.

{families}

`thinking off`: prompts of direct answers end outside any block of reasoning, because the template
has none, by a switch of the template, or because isogloss ends the block or begins the final answer
as the template would. `LoRA on experts`: tuned with `target_modules=all-linear+experts`.

## Steps of every architecture

Every causal language model of transformers {version}, built small with random weights and tried by
`python -m scripts.architectures`: scores are within 0.001 nats of plain passes, and generated texts
are the same.

When a model is loaded, the ways to compute are tried on it again. A faster one is used only if it
gives the logits of the model's own pass; the others give the same results in more time.

| | scoring and training | generation |
|---|---|---|
| fast | common beginnings are computed once | in batches, with a cache |
| plain | each sequence is a row of its own | |
| one by one | each sequence is a pass of its own | each text alone, with its cache or state |
| without a cache | | each token is computed from the whole text |

Encoders, models with an encoder and a decoder, and models that need code of their own are refused
before weights are read. Types such as `bart` or `whisper` below are their decoders alone
(`is_encoder_decoder: false`). A model is also refused if a weight is missing from its files, or if
its logits are not finite or depend on later tokens. "Not built" means that the default
configuration cannot be made small, or that a package is missing; such a model is tried when it is
loaded, like any other. For models with `index_topk` or `keep_window_size`, a prompt may have only
that many tokens, because beyond them later tokens would change the scores of earlier ones.

| model type | scoring | generation | LoRA | remark |
|---|---|---|---|---|
{rows}
"""


def page(outcomes: Iterable[Outcome]) -> str:
    """The page of the documentation, with a row per architecture in alphabetical order."""
    rows = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        steps = (outcome.scoring, outcome.generation, outcome.lora, outcome.reason)
        rows.append(f"| {' | '.join((f'`{outcome.name}`', *steps))} |".replace("  ", " "))
    return PAGE.format(
        version=transformers.__version__, rows="\n".join(rows), families=families_table()
    )


def families_table() -> str:
    """The table of whole studies: one row per family, one column per step."""
    families = json.loads(FAMILIES.read_text("utf-8"))
    steps = list(next(iter(families.values())))
    lines = [("family", *steps)]
    lines += [(f"`{name}`", *(row[step] for step in steps)) for name, row in families.items()]
    heading, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join((heading, "|---" * (len(steps) + 1) + "|", *rows))


def written() -> dict[str, Outcome]:
    """The outcomes in the page, by name."""
    lines = TABLE.read_text("utf-8").splitlines() if TABLE.is_file() else []
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [row for row in cells if len(row) == 5 and row[0].startswith("`")]
    return {row[0].strip("`"): Outcome(row[0].strip("`"), *row[1:]) for row in rows}


def main() -> int:
    """Try architectures; write their rows of the table, or compare a sample with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--families", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    if arguments.families:
        TABLE.write_text(page(written().values()), "utf-8")
        return 0
    names = arguments.only or (SAMPLE if arguments.check else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    before = written()
    outcomes = {outcome.name: outcome for outcome in try_all(names)}
    if arguments.check:
        changed = [name for name, outcome in outcomes.items() if outcome != before.get(name)]
        print(f"not as in {TABLE.name}: {', '.join(changed)}" if changed else "as in the table")
        return int(bool(changed))
    outcomes = {**before, **outcomes} if arguments.only else outcomes
    TABLE.write_text(page(outcomes.values()), "utf-8")
    fast = sorted(name for name, outcome in outcomes.items() if outcome.scoring == "fast")
    TREES.write_text("\n".join(fast) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
