"""Training: LoRA on the source language, loss on answer tokens only.

The loss of a step is that of transformers' Trainer on the same items with all but the answer
masked: the mean negative log-likelihood over the answer tokens of the step.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from isogloss.adapters import detach, save_adapter
from isogloss.asking import predict
from isogloss.contamination import record
from isogloss.models import LanguageModel
from isogloss.packing import TokenTree, can_share, forward
from isogloss.progress import bar
from isogloss.prompts import Prompt, Protocol, prompt
from isogloss.scoring import encode
from isogloss.tasks import Item

TOKENS_PER_BATCH = 2048
MAX_GRADIENT_NORM = 1.0
WARMUP = 0.1


@dataclass(frozen=True)
class Recipe:
    """What decides the weights of an adapter, besides model, data and format."""

    steps: int = 40
    batch_size: int = 16
    learning_rate: float = 5e-4
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str = "all-linear"
    seed: int = 0
    eval_every: int = 20

    def describe(self, n_items: int) -> str:
        """In words, what replicates that differ only in their seed have in common."""
        return (
            f"{self.steps} steps of {self.batch_size} of {n_items} items, "
            f"learning rate {self.learning_rate:g}, rank {self.rank}, alpha {self.alpha}, "
            f"dropout {self.dropout:g}, {self.target_modules}"
        )


class _Row(NamedTuple):
    tree: TokenTree
    targets: list[tuple[int, int]]  # node before, answer token
    items: int


def train(
    model: LanguageModel,
    train_items: Sequence[Item],
    dev_items: Sequence[Item],
    protocol: Protocol,
    recipe: Recipe,
    folder: Path,
    *,
    task: str,
    description: str = "finetune",
    log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> None:
    """Train a new adapter on `train_items` and save it in `folder` (safetensors, peft's layout),
    with the record of what it was trained on.

    `log(step, metrics)` receives `train/loss` (nats a token) and `train/learning_rate` each step,
    and `dev/accuracy` and `dev/gold_logprob` before the first step, every `eval_every` steps and
    after the last. The adapter is taken out of the model again, which ends as it began.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import get_linear_schedule_with_warmup

    detach(model)
    torch.manual_seed(recipe.seed)
    targets = recipe.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets if targets == "all-linear" else targets.split(","),
    )
    peft_model = get_peft_model(model.network, config)
    try:
        weights = [weight for weight in peft_model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
        schedule = get_linear_schedule_with_warmup(
            optimizer, int(WARMUP * recipe.steps), recipe.steps
        )
        rows = _rows(model, train_items, protocol)
        steps = bar(_steps(rows, recipe), description, "step", total=recipe.steps)

        def measure_dev(step: int) -> None:
            peft_model.eval()
            predictions = predict(model, dev_items, protocol, task)
            accuracy = float(np.mean([prediction.correct for prediction in predictions]))
            logprob = float(np.mean([prediction.gold_logprob for prediction in predictions]))
            log(step, {"dev/accuracy": accuracy, "dev/gold_logprob": logprob})
            steps.set_postfix_str(f"dev accuracy {accuracy:.2f}")

        measure_dev(0)
        for step, batch in enumerate(steps, start=1):
            peft_model.train()
            loss = _accumulate_gradients(model, batch)
            torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            log(step, {"train/loss": loss, "train/learning_rate": rate})
            if step % recipe.eval_every == 0 or step == recipe.steps:
                measure_dev(step)
        save_adapter(peft_model, folder, model.source)
        how = recipe.describe(len(train_items))
        record(task, train_items, recipe.seed, how).write(folder)
    finally:
        peft_model.eval()
        peft_model.unload()


def _rows(model: LanguageModel, items: Sequence[Item], protocol: Protocol) -> list[_Row]:
    """One row a passage (a question, if the model cannot share), in the order of the items."""
    prompts = [prompt(item, protocol, model.tokenizer) for item in items]
    gold = [
        Prompt(entry.context, (entry.continuations[item.answer],))
        for entry, item in zip(prompts, items, strict=True)
    ]
    encoded = encode(model.tokenizer, gold, chat=protocol.chat)
    share = can_share(model.network.config)
    rows = []
    for _, members in groupby(
        range(len(items)), lambda index: items[index].passage_id if share else index
    ):
        row = _Row(TokenTree(), [], len(indices := list(members)))
        for index in indices:
            (sequence,), (start,) = encoded[index]
            path = row.tree.insert(sequence[:-1])
            row.targets.extend(zip(path[start - 1 :], sequence[start:], strict=True))
        rows.append(row)
    return rows


def _steps(rows: Sequence[_Row], recipe: Recipe) -> Iterator[list[_Row]]:
    """Batches of `batch_size` items (whole passages), reshuffled every epoch by the seed."""
    order = random.Random(f"order-{recipe.seed}")
    queue: list[_Row] = []
    for _ in range(recipe.steps):
        batch: list[_Row] = []
        while not batch or sum(row.items for row in batch) < recipe.batch_size:
            if not queue:
                queue = list(rows)
                order.shuffle(queue)
            batch.append(queue.pop())
        yield batch


def _accumulate_gradients(model: LanguageModel, batch: Sequence[_Row]) -> float:
    """Add the gradients of a step's loss, in parts that fit the token budget; return the loss."""
    answer_tokens = sum(len(row.targets) for row in batch)
    total = 0.0
    for part in _parts(batch):
        wanted = [[node for node, _ in row.targets] for row in part]
        tokens_N = torch.tensor([token for row in part for _, token in row.targets])
        logits_NV = forward(model, [row.tree for row in part], wanted)
        loss = torch.nn.functional.cross_entropy(
            logits_NV.float(), tokens_N.to(model.device), reduction="sum"
        )
        loss = loss / answer_tokens
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def _parts(batch: Sequence[_Row]) -> Iterator[list[_Row]]:
    part: list[_Row] = []
    for row in sorted(batch, key=lambda row: len(row.tree), reverse=True):
        if part and (len(part) + 1) * len(part[0].tree) > TOKENS_PER_BATCH:
            yield part
            part = []
        part.append(row)
    if part:
        yield part
