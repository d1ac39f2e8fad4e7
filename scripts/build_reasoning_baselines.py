"""Write base models that differ in how well they reason before an answer, made from one model.

The claim that chain of thought helps the same models as fine-tuning compares models. These are the
embedded model after 0, 4, 8, 16, 32 and 64 steps on worked reasoning in English, which is
neither source nor target of the study: it quotes the fact of the passage that answers the question
and repeats the answer. One training makes them all: each is its state after so many steps.
`baseline.json` in each folder says how it was made. From the root of the repository:

    PYTHONPATH=src python -m scripts.build_reasoning_baselines
    mlflow run . --env-manager local -P study=configs/reasoning-baselines.yaml
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import click
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from isogloss import logs
from isogloss.cli.command import user_errors
from isogloss.models.adapters import save_adapter
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, answer_words, reasoning_prompt
from isogloss.prompts.tokenisation import encode
from isogloss.tasks import Item, probe
from isogloss.types import Format, Reasoning, Split
from scripts.build_baselines import RECIPE, merge

STEPS = (0, 4, 8, 16, 32, 64)
PROTOCOL = Protocol(format=Format.CLOZE, reasoning=Reasoning.COT)
IGNORED = -100  # torch's cross entropy leaves such targets out


@dataclass(frozen=True)
class Training:
    """How the models are trained."""

    language: str = "eng_Latn"
    batch_size: int = 8
    learning_rate: float = 2e-4
    rank: int = 16
    alpha: int = 32
    seed: int = 0


def worked_reasoning(item: Item) -> str:
    """Return what the model is to write: the fact, and the line with the answer."""
    value = item.options[item.answer]
    facts = [fact for fact in re.split(r"(?<=\.) ", item.passage) if value in fact]
    if len(facts) != 1:
        raise ValueError(f"{value!r} is in {len(facts)} facts of {item.passage!r}; expected one.")
    (answer, *_) = answer_words(item.language, PROTOCOL)
    return f' The text says: "{facts[0]}"\n{answer}: {value}'


def batches(model: LanguageModel, training: Training) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield tokens and targets, [B, T] each, for ever; a target is the next token or IGNORED."""
    items = probe.load(training.language, Split.TRAIN)
    prompts = [
        Prompt(reasoning_prompt(item, PROTOCOL, model.tokenizer), (worked_reasoning(item),))
        for item in items
    ]
    end = [] if model.tokenizer.eos_token_id is None else [model.tokenizer.eos_token_id]
    rows = []
    for encoded in encode(model.tokenizer, prompts):
        tokens = [*encoded.sequences[0], *end]
        targets = [IGNORED] * (encoded.starts[0] - 1) + tokens[encoded.starts[0] :]
        rows.append((torch.tensor(tokens[:-1]), torch.tensor(targets)))
    order = random.Random(training.seed)
    while True:
        order.shuffle(rows)
        for start in range(0, len(rows) - training.batch_size + 1, training.batch_size):
            tokens_B, targets_B = zip(*rows[start : start + training.batch_size], strict=True)
            yield (
                pad_sequence(list(tokens_B), batch_first=True),
                pad_sequence(list(targets_B), batch_first=True, padding_value=IGNORED),
            )


def loss_of(network: PreTrainedModel, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log-likelihood (nats) over the targets.

    Rows are padded on the right, where causal attention does not look. The head is applied to the
    targets' positions only: it has most of the weights of a small model.
    """
    states = network.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
    kept = targets != IGNORED
    logits = network.get_output_embeddings()(states[kept])
    return torch.nn.functional.cross_entropy(logits.float(), targets[kept])


def build(out: Path, name: str, training: Training, steps: Sequence[int]) -> list[Path]:
    """Write one model folder per number of steps; nothing is done if all are there."""
    location = locate(name)
    shared = {"base": location.name, "base_revision": location.revision} | asdict(training)
    recipes = {out / f"step-{number:03}": shared | {"steps": number} for number in steps}
    if all(_made(folder, recipe) for folder, recipe in recipes.items()):
        return list(recipes)
    model = load(location)
    torch.manual_seed(training.seed)
    lora = LoraConfig(r=training.rank, lora_alpha=training.alpha, target_modules="all-linear")
    adapter = get_peft_model(model.module, lora)
    weights = [weight for weight in adapter.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0)
    network = cast(PreTrainedModel, model.network)
    stream = batches(model, training)
    with logs.progress_bar("worked reasoning", "step", total=max(steps)) as progress:
        for step in range(max(steps) + 1):
            if step in steps:
                folder = out / f"step-{step:03}"
                with TemporaryDirectory() as temporary:
                    if step:
                        save_adapter(adapter, Path(temporary), location)
                    merge(location, Path(temporary) if step else None, folder)
                text = json.dumps(recipes[folder], indent=2)
                (folder / RECIPE).write_text(f"{text}\n", encoding="utf-8")
            if step == max(steps):
                break
            with torch.autocast("cpu", model.dtype, enabled=model.dtype != torch.float32):
                loss = loss_of(network, *next(stream))
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            progress.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            progress.update()
    return list(recipes)


def _made(folder: Path, recipe: dict[str, object]) -> bool:
    path = folder / RECIPE
    return path.is_file() and json.loads(path.read_text("utf-8")) == recipe


@click.command(help=__doc__)
@click.option(
    "--out", default="baselines/reasoning", show_default=True, type=click.Path(path_type=Path)
)
@click.option("--model", default="embedded", show_default=True)
def main(out: Path, model: str) -> None:
    """Build the models."""
    logs.configure()
    with user_errors():
        for folder in build(out, model, Training(), STEPS):
            click.echo(folder)


if __name__ == "__main__":
    main()
