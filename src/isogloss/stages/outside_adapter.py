"""Adapters that something else than this process has trained: items, checks, and logging.

An external command and a service leave a peft folder; what becomes of it is the same.
"""

import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.files import whole_folder
from isogloss.inference.context_window import fit, window_of
from isogloss.models.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterFiles,
    adapter_digest,
    check_base,
    check_chat_template,
    check_tokens,
    read_adapter,
)
from isogloss.models.architecture import check_architecture
from isogloss.models.skeleton import require_fit
from isogloss.models.tokenizers import shared_tokenizer
from isogloss.prompts.tokenisation import label_tokens
from isogloss.registry.logging import AdapterBase, TrainedAdapter, log_adapter
from isogloss.stages.finetune_plan import FinetunePlan
from isogloss.stages.session import AUTO, Session
from isogloss.stages.training_inputs import SourceData
from isogloss.tracking.tags import prefixed
from isogloss.training.contamination import training_record
from isogloss.training.early_stopping import DevScore
from isogloss.training.external_data import write_json
from isogloss.training.recipe import Recipe
from isogloss.training.tinker import PATHS
from isogloss.types import EngineKind

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutsideTraining:
    """A plan, its items within the context window, and what trains: in a word, and described."""

    plan: FinetunePlan
    data: SourceData
    tokenizer: Tokenizer
    label: str
    trainer: str
    described: str


def fitted_data(plan: FinetunePlan, session: Session) -> tuple[SourceData, Tokenizer]:
    """The data within the model's context window, and the tokenizer; no weights are read."""
    config, protocol = plan.config, plan.protocol
    tokenizer = shared_tokenizer(session.location)
    label_tokens(tokenizer, plan.data.train, protocol)
    window = window_for(plan, session)
    train_items, dev_items = (
        fit(items, tokenizer, protocol, window, config.long_inputs).items
        for items in (plan.data.train, plan.data.dev)
    )
    return SourceData(plan.data.task, train_items, dev_items), tokenizer


def window_for(plan: FinetunePlan, session: Session) -> int:
    """The most tokens of a prompt, by the server or by the model's configuration."""
    if session.served:
        return session.served.window(plan.config.max_length)
    model_config = check_architecture(session.location)
    return window_of(model_config, shared_tokenizer(session.location), plan.config.max_length)


def has_config(session: Session) -> bool:
    """Whether the architecture is known; of a served model perhaps only the tokenizer is here."""
    return (session.location.folder / "config.json").is_file()


def take_adapter(
    training: OutsideTraining, session: Session, found: Path, target: Path, names: Collection[str]
) -> None:
    """Check an adapter, and copy it into `target` with the name of its base and a training record.

    `names` are names of the base beside its own. Raises ModelError for an adapter that would not be
    applied, that is untrained or not of this base. One of a service that has no place in the model
    here is kept, since the service applies it.
    """
    plan, location = training.plan, session.location
    files = read_adapter(found)
    served = session.served.base_names if session.served else ()
    check_base(files, location, {*names, *served})
    check_tokens(files, training.tokenizer)
    if plan.config.chat == AUTO:
        check_chat_template(found, training.tokenizer)
    if has_config(session):
        _require_fit(training, files, session)
    else:
        logger.warning(f"whether the adapter fits {location.name} is not known without config.json")
    recipe = _trained_recipe(plan.recipe, files)
    with whole_folder(target) as part:
        shutil.copyfile(found / WEIGHTS, part / WEIGHTS)
        if (found / PATHS).is_file():  # where a service has the adapter
            shutil.copyfile(found / PATHS, part / PATHS)
        settings = {
            **files.settings,
            "base_model_name_or_path": location.name,
            # That of a served model stands for its name, and is no hash of weights.
            "revision": None if session.served else location.revision,
        }
        write_json(part / CONFIG, settings)
        train_items = training.data.train
        languages = {item.language for item in train_items}
        described = recipe.describe(len(train_items) // len(languages))
        training_record(
            training.data.task.name,
            train_items,
            recipe.seed,
            f"{described}, by {training.described}",
            f"{plan.protocol.in_training} {training.trainer}",
        ).write(part)


def _require_fit(training: OutsideTraining, files: AdapterFiles, session: Session) -> None:
    try:
        require_fit(files, session.location)
    except ModelError as error:
        if training.trainer != EngineKind.TINKER:
            raise
        logger.warning(f"the adapter can be used by {training.described} alone: {error}")


def _trained_recipe(asked: Recipe, files: AdapterFiles) -> Recipe:
    """The recipe with the rank and alpha that an adapter has; a warning if they are others."""
    rank, alpha = files.settings.get("r", asked.rank), files.settings.get("lora_alpha", asked.alpha)
    if (rank, alpha) != (asked.rank, asked.alpha):
        logger.warning(
            f"the adapter has rank {rank} and alpha {alpha}, not {asked.rank} and {asked.alpha} as "
            "in the recipe"
        )
    return replace(asked, rank=rank, alpha=alpha)


def log_outside_adapter(
    training: OutsideTraining, session: Session, folder: Path, dev: DevScore | None
) -> None:
    """Log the adapter to the open run as a model."""
    plan = training.plan
    dtype = AUTO if session.served else session.dtype
    base = AdapterBase(session.location, dtype, window_for(plan, session))
    uri = log_adapter(
        TrainedAdapter(
            folder, plan.recipe.steps, dev, plan.config, plan.protocol, plan.tags,
            training.data.task.own_texts,
        ),
        base,
    )  # fmt: skip
    names = ("last_uri", "best_uri", "adapter_uri")
    mlflow.set_tags(
        prefixed(
            {
                **dict.fromkeys(names, uri),
                "best_step": str(plan.recipe.steps),
                "adapter": adapter_digest(folder),
            }
        )
    )
