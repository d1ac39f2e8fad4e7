"""Training loop: LoRA on the source language, with the loss on answer tokens only.

The loss of a step is the mean negative log-likelihood (nats) over the answer tokens of its batch,
as transformers' Trainer computes it when everything but the answer is masked.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from isogloss.compat.peft import fuse_lora
from isogloss.compat.torch import on_device
from isogloss.distributed import processes
from isogloss.errors import ConfigError, ModelError, TrainingError
from isogloss.files import whole_folder
from isogloss.inference.predict import predict
from isogloss.logs import progress_bar, tell
from isogloss.models.adapter_weights import remove_layers
from isogloss.models.adapters import detach, save_adapter
from isogloss.models.forward import finish_passes, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import logits
from isogloss.models.lora import lora_config
from isogloss.models.memory import (
    out_of_memory,
    require_memory_for_lora,
    training_token_budget,
)
from isogloss.models.paths import can_share
from isogloss.predictions.table import Prediction, frame
from isogloss.prompts.protocol import Protocol
from isogloss.tasks import Item
from isogloss.training.batches import TrainingRow, plan_batches, split_by_tokens, training_rows
from isogloss.training.checkpoints import TrainingState
from isogloss.training.contamination import training_record
from isogloss.training.dev_predictions import CONTENT, DEV_PREDICTIONS, content_digest
from isogloss.training.early_stopping import (
    DevScore,
    best_step,
    dev_score,
    patience_exhausted,
)
from isogloss.training.kept_adapter import is_whole
from isogloss.training.recipe import MAX_GRADIENT_NORM, Recipe

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

logger = logging.getLogger(__name__)

LAST = "last"  # name of a folder
BEST = "best-"  # of the name of a folder, before the step
LogMetrics = Callable[[int, dict[str, float]], None]
OnMeasurement = Callable[[int, list[Prediction]], None]


@dataclass(frozen=True)
class TrainingJob:
    """One adapter to train: data, protocol and recipe, and the folder that receives it.

    With `checkpoint_every`, the state of the training is saved in the folder every so many steps.
    `gradient_checkpointing` recomputes activations in the backward pass: less memory, more time,
    the same weights.
    """

    task: str
    train_items: Sequence[Item]
    dev_items: Sequence[Item]
    protocol: Protocol
    recipe: Recipe
    folder: Path
    description: str = "finetune"
    checkpoint_every: int | None = None
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """The folders of the adapters after the last and after the best step, with their dev scores.

    `best` is `last` unless an earlier measurement was better.
    """

    last: Path
    best: Path
    last_step: int
    best_step: int
    dev: DevScore
    best_dev: DevScore


def train(
    model: LanguageModel,
    job: TrainingJob,
    *,
    log: LogMetrics = lambda step, metrics: None,
    on_measurement: OnMeasurement = lambda step, predictions: None,
) -> TrainingResult:
    """Train a new adapter into `job.folder` and leave the model as it was.

    An adapter folder has peft's layout (safetensors), a record of the training data and the
    predictions on dev items. `log(step, metrics)` receives `train/loss` (nats per token) and
    `train/learning_rate` of every step, and `dev/accuracy` and `dev/gold_logprob` before the
    first step, every `eval_every` steps and after the last. `on_measurement` receives the dev
    predictions at the same steps.

    With `job.checkpoint_every`, an interrupted training resumes from its checkpoint; on a CPU the
    weights are the same, bit for bit. A KeyboardInterrupt leaves a checkpoint of the last whole
    step. Several processes share the items of every batch; up to
    rounding, and up to the random numbers of dropout, the adapter does not depend on their number.
    Raises ConfigError if the model cannot be trained with this recipe, and TrainingError if a loss
    is not finite or memory runs out.
    """
    return processes.run_on_all(_train, model, job, log=log, on_measurement=on_measurement)


def recipe_lora_config(model: LanguageModel, recipe: Recipe) -> "LoraConfig":
    """peft's configuration of a recipe; detaches all adapters from the model.

    Raises ConfigError if the model lacks the modules that the recipe names, or if its rank needs
    more memory than the machine has.
    """
    detach(model)
    config = lora_config(
        model.network, recipe.target_modules, recipe.rank, recipe.alpha, recipe.dropout
    )
    require_memory_for_lora(model, config)
    return config


def _train(
    model: LanguageModel,
    job: TrainingJob,
    log: LogMetrics = lambda step, metrics: None,
    on_measurement: OnMeasurement = lambda step, predictions: None,
) -> TrainingResult:
    if model.offloaded:
        raise ConfigError(
            "device_map 'auto' has offloaded layers to CPU memory or disk, where they cannot be "
            "trained; use more GPU memory, or dtype nf4."
        )
    if processes.is_leader():
        job.folder.mkdir(parents=True, exist_ok=True)
    state = None
    try:
        with _new_adapter(model, job) as adapter:
            weights = [weight for weight in adapter.parameters() if weight.requires_grad]
            state = TrainingState(weights, job.recipe)
            processes.broadcast_weights(weights)
            if job.checkpoint_every:
                state.load(job.folder, lambda dev, step: _keeps_best(job, dev, step))
            if state.kept_step is not None and not state.finished:
                logger.info(
                    f"{job.description}: resuming at step {state.step + 1} of {job.recipe.steps}"
                )
            try:
                _run_steps(model, adapter, state, job, log, on_measurement)
            except KeyboardInterrupt:
                _keep_interrupted(state, job)
                raise
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        step = 1 if state is None else state.step + 1
        raise TrainingError(
            f"out of memory in step {step}, with batches of {job.recipe.batch_size} items and rank "
            f"{job.recipe.rank} ({str(error).strip().splitlines()[0][:200]})."
        ) from error
    best = best_step(state.dev)
    last_folder = job.folder / LAST
    return TrainingResult(
        last=last_folder,
        best=last_folder if best == state.step else _best_folder(job, best),
        last_step=state.step,
        best_step=best,
        dev=state.dev[state.step],
        best_dev=state.dev[best],
    )


def _run_steps(
    model: LanguageModel,
    adapter: "PeftModel",
    state: TrainingState,
    job: TrainingJob,
    log: LogMetrics,
    on_measurement: OnMeasurement,
) -> None:
    """Do the steps that `state` has not done yet."""
    recipe = job.recipe
    rows = training_rows(model, job.train_items, job.protocol)
    batches = islice(plan_batches(rows, recipe), state.step, None)
    budget = training_token_budget(model, job.gradient_checkpointing)
    with progress_bar(job.description, "step", total=recipe.steps, initial=state.step) as progress:
        if _measurement_is_missing(state) or _last_is_lost(state, job):
            _measure(model, adapter, state, job, log, on_measurement)
        while not state.finished:
            adapter.train()
            state.begin_step()
            processes.seed_step(recipe.seed, state.step)
            rate = state.learning_rate
            loss = processes.sum_gradients(
                _accumulate_gradients(model, next(batches), budget), state.weights
            )
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of step {state.step + 1} is {loss} at learning rate {rate:.2g}; "
                    f"a lower learning_rate may help."
                )
            norm = float(torch.nn.utils.clip_grad_norm_(state.weights, MAX_GRADIENT_NORM))
            if not math.isfinite(norm):
                raise TrainingError(
                    f"the gradient of step {state.step + 1} has norm {norm} at learning rate "
                    f"{rate:.2g}, with loss {loss:.3g}; a lower learning_rate may help."
                )
            # Logged first: a step that is done when a signal comes is not repeated. One that is
            # not is logged again, as one is that was done after the last checkpoint.
            log(state.step + 1, {"train/loss": loss, "train/learning_rate": rate})
            state.end_step()
            at = max(state.dev)
            accuracy = state.dev[at].accuracy
            tell(
                progress,
                bar=f"loss {loss:.2f}, dev {accuracy:.2f}",
                line=f"loss {loss:.3f}, dev accuracy {accuracy:.2f} at step {at}",
            )
            progress.update()
            if _measurement_is_missing(state):
                _measure(model, adapter, state, job, log, on_measurement)
            if processes.is_leader() and _checkpoint_due(state, job):
                state.save(job.folder)
                _delete_others(job, best_step(state.dev) if max(state.dev) else 0)


def _measurement_is_missing(state: TrainingState) -> bool:
    """Whether dev items are to be scored after this step and have not been."""
    recipe = state.recipe
    due = state.step % recipe.eval_every == 0 or state.step == recipe.steps
    return due and state.step not in state.dev


def _keep_interrupted(state: TrainingState, job: TrainingJob) -> None:
    """Save the steps that are done, if checkpoints are, and log what will be repeated."""
    if not (job.checkpoint_every and processes.is_leader()):
        return
    state.save_interrupted(job.folder)
    if state.kept_step == state.step and state.consistent:
        logger.info(f"{job.description}: a checkpoint of step {state.step} is kept")
    else:
        logger.info(
            f"{job.description}: steps after the last checkpoint (step {state.kept_step or 0}) "
            "are repeated"
        )


def _best_folder(job: TrainingJob, step: int) -> Path:
    """The folder of the best adapter so far, by its step.

    Work that resumes from an earlier checkpoint may not find the later adapter best again.
    """
    return job.folder / f"{BEST}{step}"


def _keeps_best(job: TrainingJob, dev: Mapping[int, DevScore], step: int) -> bool:
    """Whether the best adapter is on disk; the last one is not needed, it can be saved again."""
    best = best_step(dev) if max(dev) else 0
    is_last = step == job.recipe.steps or patience_exhausted(dev, job.recipe.patience)
    return (
        not best or (best == step and is_last) or is_whole(_best_folder(job, best), DEV_PREDICTIONS)
    )


def _last_is_lost(state: TrainingState, job: TrainingJob) -> bool:
    """Whether a finished training, of which there is a checkpoint, has no adapter on disk."""
    lost = state.dev and state.finished and not is_whole(job.folder / LAST, DEV_PREDICTIONS)
    return bool(processes.broadcast(lost if processes.is_leader() else None))


def _delete_others(job: TrainingJob, step: int) -> None:
    """Delete the adapters of earlier steps than the best one, to which no checkpoint goes back."""
    for folder in job.folder.glob(f"{BEST}*"):
        if folder != _best_folder(job, step):
            shutil.rmtree(folder)


def _checkpoint_due(state: TrainingState, job: TrainingJob) -> bool:
    if job.checkpoint_every is None:
        return False
    return state.finished or state.step % job.checkpoint_every == 0


@contextmanager
def _new_adapter(model: LanguageModel, job: TrainingJob) -> Iterator["PeftModel"]:
    """The model with a new LoRA adapter, initialised by the seed; removed at the end."""
    from peft import get_peft_model

    config = recipe_lora_config(model, job.recipe)
    can_share(model)  # tested without an adapter, whose dropout would draw random numbers
    torch.manual_seed(job.recipe.seed)
    try:
        adapter = get_peft_model(model.module, config)
    except (MemoryError, RuntimeError, ValueError) as error:
        remove_layers(model.module)  # those that it has wrapped before
        if isinstance(error, ValueError):  # a module that peft has no LoRA for
            raise ConfigError(str(error).strip().splitlines()[0]) from error
        raise
    fuse_lora(model.network, "default", cast_inputs=model.casts_lora_inputs)
    try:
        if job.gradient_checkpointing:
            _enable_checkpointing(model)
        yield adapter
    finally:
        if job.gradient_checkpointing:
            model.network.activation_checkpointing_disable()
        adapter.eval()
        adapter.unload()


def _enable_checkpointing(model: LanguageModel) -> None:
    try:
        model.network.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(
            f"gradient_checkpointing is on, but {model.network.config.model_type} models do not "
            "support it; expected off."
        ) from error


def _measure(
    model: LanguageModel,
    adapter: "PeftModel",
    state: TrainingState,
    job: TrainingJob,
    log: LogMetrics,
    on_measurement: OnMeasurement,
) -> None:
    """Score the dev items, log the score, and save the adapter if it is the last or the best."""
    adapter.eval()
    try:
        predictions = predict(model, job.dev_items, job.protocol, job.task)
    except ModelError as error:
        raise TrainingError(f"after step {state.step}, {error}") from error
    score = dev_score(predictions)
    if not all(map(math.isfinite, score)):
        raise TrainingError(
            f"the mean dev log-probability is {score.gold_logprob} after step {state.step}; a "
            "lower learning_rate may help."
        )
    log(state.step, {f"dev/{name}": value for name, value in score._asdict().items()})
    try:
        state.dev[state.step] = score
        if processes.is_leader():
            if state.finished:
                _save(model, adapter, job, LAST, predictions)
            elif state.step > 0 and best_step(state.dev) == state.step:
                _save(model, adapter, job, _best_folder(job, state.step).name, predictions)
                if job.checkpoint_every is None:
                    _delete_others(job, state.step)
        on_measurement(state.step, predictions)
    except KeyboardInterrupt:  # measured again: a checkpoint needs the best adapter on disk
        state.dev.pop(state.step, None)
        raise


def _save(
    model: LanguageModel,
    adapter: "PeftModel",
    job: TrainingJob,
    name: str,
    predictions: list[Prediction],
) -> None:
    """Write the adapter, its training record and its dev predictions to folder `name`; atomic."""
    recipe = job.recipe
    with whole_folder(job.folder / name) as folder:
        save_adapter(adapter, folder, model.location)
        description = recipe.describe(
            len(job.train_items) // len({item.language for item in job.train_items})
        )
        training_record(
            job.task,
            job.train_items,
            recipe.seed,
            description,
            f"{job.protocol.in_training} {model.dtype_name}",
        ).write(folder)
        table = frame(predictions)
        table[CONTENT] = list(map(content_digest, job.dev_items))
        table.to_parquet(folder / DEV_PREDICTIONS, index=False)


def _accumulate_gradients(model: LanguageModel, batch: Sequence[TrainingRow], budget: int) -> float:
    """Add the gradients of a batch's loss, in parts of `budget` tokens; return the loss.

    Each of several processes takes its share of the rows: the sums over processes are the batch's.
    """
    answer_tokens = sum(len(row.targets) for row in batch)
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    own_rows = processes.split_work(batch, lambda row: len(row.tree))
    for part in split_by_tokens(own_rows, budget):
        nodes = [[node for node, _ in row.targets] for row in part]
        tokens_N = on_device([token for row in part for _, token in row.targets], model.device)
        with ExitStack() as passes:
            states_ND = hidden_states(model, [row.tree for row in part], nodes, contexts=passes)
            logits_NV = logits(model, states_ND)
            loss = torch.nn.functional.cross_entropy(
                logits_NV.float(), tokens_N.to(logits_NV.device), reduction="sum"
            )
            loss = loss / answer_tokens
            torch.autograd.backward(loss)
            total += loss.detach().to(model.device)  # read once: the host prepares the next part
    finish_passes(model, backward=True)
    return float(total)
