"""Training on Tinker: the steps of this process's training loop, computed by the service.

Batches, loss and schedule are those of `training.loop`: the loss of a step is the mean over the
answer tokens of its batch, which Tinker's cross-entropy, a sum over tokens by weight, gives with
weights of one over their number. Tinker decides what it does not let its clients choose: LoRA's
alpha, its initial values for a seed, and rounding.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from isogloss.config.engine import Engine
from isogloss.errors import ConfigError, TrainingError
from isogloss.files import write_whole
from isogloss.logs import progress_bar
from isogloss.models.adapter_files import CONFIG, WEIGHTS
from isogloss.models.target_modules import GROUPS
from isogloss.servers.tinker import open_service, told
from isogloss.tasks import Item
from isogloss.training.batches import plan_batches
from isogloss.training.external_data import IGNORED, TokenRow
from isogloss.training.recipe import MAX_GRADIENT_NORM, Recipe

if TYPE_CHECKING:
    from tinker import Datum, ForwardBackwardOutput, ServiceClient, TrainingClient

logger = logging.getLogger(__name__)

STATE = "tinker.json"  # in a work folder: what the service has saved of a training
PATHS = "tinker.json"  # beside an adapter: where the service has it
STATE_LIFETIME = 30 * 24 * 3600  # seconds that a checkpoint to resume from stays
EXPORT_LIFETIME = 3600  # seconds that files to download stay
NAME = "isogloss"
# Of torch.optim.AdamW, which trains in this process; the SDK's own defaults differ.
BETAS, EPSILON = (0.9, 0.999), 1e-8
DOWNLOADS = 3  # attempts


class Batched(NamedTuple):
    """The items of one passage, which come into one batch."""

    rows: list[TokenRow]
    items: int


@dataclass(frozen=True)
class TinkerJob:
    """One adapter to train: base model by its name there, rows by passage, recipe and work folder.

    A checkpoint is saved every so many steps, and after the last.
    """

    engine: Engine
    passages: Sequence[Batched]
    recipe: Recipe
    folder: Path
    description: str
    checkpoint_every: int | None


class SavedTraining(BaseModel):
    """What the service has of a training: paths there, the steps done and the tokens trained on.

    `state` is a checkpoint with the optimizer, `weights` are those that answer.
    """

    model_config = ConfigDict(frozen=True)

    state: str | None = None
    step: int = 0
    tokens: int = 0
    weights: str | None = None


def check_recipe(recipe: Recipe) -> None:
    """Raise ConfigError for what Tinker's LoRA does not have."""
    if recipe.dropout:
        raise ConfigError(f"dropout is {recipe.dropout:g}, but Tinker has none; expected 0.")
    if recipe.target_modules not in GROUPS:
        raise ConfigError(
            f"target_modules is {recipe.target_modules!r}, but Tinker trains groups of layers; "
            f"expected {' or '.join(GROUPS)}."
        )


def by_passage(items: Sequence[Item], rows: Sequence[TokenRow]) -> list[Batched]:
    """Rows of items, one each, as a training in this process puts them into batches."""
    pairs = zip(items, rows, strict=True)
    groups = groupby(pairs, lambda pair: (pair[0].language, pair[0].passage_id))
    members = [[row for _, row in group] for _, group in groups]
    return [Batched(group, len(group)) for group in members]


def train_on_tinker(
    job: TinkerJob,
    target: Path,
    log: Callable[[int, dict[str, float]], None],
) -> SavedTraining:
    """Train an adapter and download its peft files into the folder `target`.

    `log(step, metrics)` receives `train/loss` (nats per token) and `train/learning_rate`. A
    training that was interrupted resumes from its last checkpoint on the service. Raises
    TrainingError if the service does not train, or gives no peft adapter.
    """
    saved = read_saved(job.folder)
    with told(job.engine, TrainingError), open_service(job.engine) as service:
        trainer = _trainer(service, job, saved)
        if saved.step < job.recipe.steps:
            saved = _run_steps(trainer, job, saved, log)
        if saved.weights is None:
            weights = trainer.save_weights_for_sampler(NAME).result().path
            saved = _write(job.folder, saved.model_copy(update={"weights": weights}))
        exported = trainer.save_weights_external(NAME, ttl_seconds=EXPORT_LIFETIME).result().path
        _download(job.engine, exported, target)
    write_whole(target / PATHS, json.dumps({"weights": saved.weights}).encode())
    return saved


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step (from 0): linear warm-up and decay, as in transformers' schedule."""
    warmup = recipe.warmup_steps
    if step < warmup:
        return recipe.learning_rate * step / max(1, warmup)
    return recipe.learning_rate * (recipe.steps - step) / max(1, recipe.steps - warmup)


def tinker_path(folder: Path) -> str | None:
    """Where the service has an adapter that it has trained; None for another adapter."""
    path = folder / PATHS
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text("utf-8"))["weights"])
    except (ValueError, LookupError, TypeError):
        return None


def _trainer(service: "ServiceClient", job: TinkerJob, saved: SavedTraining) -> "TrainingClient":
    """A new LoRA, or the one that an interrupted training has saved."""
    recipe = job.recipe
    if saved.state is not None:
        logger.info(
            f"{job.description}: resuming on Tinker at step {saved.step + 1} of {recipe.steps}"
        )
        return service.create_training_client_from_state_with_optimizer(saved.state).result()
    assert job.engine.name is not None
    return service.create_lora_training_client(
        job.engine.name,
        rank=recipe.rank,
        seed=recipe.seed,
        train_mlp=recipe.target_modules == "all-linear",
        train_attn=True,
        train_unembed=False,
    ).result()


def _run_steps(
    trainer: "TrainingClient",
    job: TinkerJob,
    saved: SavedTraining,
    log: Callable[[int, dict[str, float]], None],
) -> SavedTraining:
    """Do the steps that `saved` has not done yet, saving checkpoints; return what is saved."""
    from tinker import AdamParams

    recipe, tokens = job.recipe, saved.tokens
    batches = islice(plan_batches(job.passages, recipe), saved.step, None)
    with progress_bar(job.description, "step", total=recipe.steps, initial=saved.step) as progress:
        for step in range(saved.step, recipe.steps):
            data = _data([row for passage in next(batches) for row in passage.rows])
            rate = learning_rate(recipe, step)
            # Both before waiting for either: the service may then do them in one of its cycles.
            computed = trainer.forward_backward(data, "cross_entropy")
            updated = trainer.optim_step(
                AdamParams(
                    learning_rate=rate,
                    beta1=BETAS[0],
                    beta2=BETAS[1],
                    eps=EPSILON,
                    weight_decay=0.0,
                    grad_clip_norm=MAX_GRADIENT_NORM,
                )
            )
            loss = _loss(data, computed.result())
            updated.result()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of step {step + 1} is {loss} at learning rate {rate:.2g}; a lower "
                    "learning_rate may help."
                )
            tokens += sum(datum.model_input.length for datum in data)
            progress.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            progress.update()
            log(step + 1, {"train/loss": loss, "train/learning_rate": rate})
            last = step + 1 == recipe.steps
            if last or (job.checkpoint_every and (step + 1) % job.checkpoint_every == 0):
                name = f"{NAME}-{step + 1}"
                state = trainer.save_state(name, ttl_seconds=STATE_LIFETIME).result().path
                saved = SavedTraining(state=state, step=step + 1, tokens=tokens)
                _write(job.folder, saved)
    return saved


def _data(rows: Sequence[TokenRow]) -> list["Datum"]:
    """A batch as Tinker takes it: each token predicts the next, and answer tokens have weights."""
    from tinker import Datum, ModelInput, TensorData

    weight = 1 / sum(label != IGNORED for row in rows for label in row.labels)
    data = []
    for row in rows:
        targets, labels = row.input_ids[1:], row.labels[1:]
        weights = [0.0 if label == IGNORED else weight for label in labels]
        size = [len(targets)]
        data.append(
            Datum(
                model_input=ModelInput.from_ints(row.input_ids[:-1]),
                loss_fn_inputs={
                    "target_tokens": TensorData(data=targets, dtype="int64", shape=size),
                    "weights": TensorData(data=weights, dtype="float32", shape=size),
                },
            )
        )
    return data


def _loss(data: Sequence["Datum"], output: "ForwardBackwardOutput") -> float:
    """The loss of a batch, from the log-probabilities of its targets."""
    terms = (
        -logprob * weight
        for datum, result in zip(data, output.loss_fn_outputs, strict=True)
        for logprob, weight in zip(
            result["logprobs"].tolist(), datum.loss_fn_inputs["weights"].tolist(), strict=True
        )
    )
    return math.fsum(terms)


def read_saved(folder: Path) -> SavedTraining:
    """What a work folder says that the service has; nothing without a file that can be read."""
    path = folder / STATE
    if not path.is_file():
        return SavedTraining()
    try:
        return SavedTraining.model_validate_json(path.read_bytes())
    except ValidationError:
        logger.warning(f"{path} cannot be read; the training begins again")
        return SavedTraining()


def _write(folder: Path, saved: SavedTraining) -> SavedTraining:
    write_whole(folder / STATE, saved.model_dump_json().encode())
    return saved


def _download(engine: Engine, exported: str, target: Path) -> None:
    """Download the peft files of an export; the addresses are signed and are in no message."""
    from tinker import RestClient

    from isogloss.servers import address

    rest = RestClient(base_url=engine.base_url, api_key=address.key(engine))
    urls = rest.get_external_weights_urls(exported).result().urls
    missing = [name for name in (CONFIG, WEIGHTS) if name not in urls]
    if missing:
        raise TrainingError(
            f"Tinker exports no {missing[0]} (of {len(urls)} files: "
            f"{', '.join(sorted(urls)[:5])}); expected a peft adapter."
        )
    target.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, WEIGHTS):
        write_whole(target / name, _fetched(urls[name], name))
    settings = json.loads((target / CONFIG).read_text("utf-8"))
    if not settings.get("base_model_name_or_path"):  # which the SDK's own commands fill in, too
        settings["base_model_name_or_path"] = engine.name
        write_whole(target / CONFIG, json.dumps(settings, indent=1).encode())


def _fetched(url: str, name: str) -> bytes:
    import httpx2

    problem = ""
    for _ in range(DOWNLOADS):
        try:
            response = httpx2.get(url, timeout=60, follow_redirects=True)
        except httpx2.TransportError as error:
            problem = type(error).__name__
            continue
        if response.status_code == httpx2.codes.OK:
            return response.content
        problem = f"status {response.status_code}"
    raise TrainingError(f"{name} of the adapter cannot be downloaded from Tinker ({problem}).")
