"""What finetune and tune train on: source-language data and the recipe."""

import logging
from typing import TYPE_CHECKING, NamedTuple

from isogloss.config import FinetuneConfig, Hyperparameters, TuneConfig
from isogloss.errors import ConfigError
from isogloss.inference.context_window import fit_to_model
from isogloss.languages import source_languages
from isogloss.models.target_modules import has_experts, reject_dropout
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import as_shown, require_wording
from isogloss.prompts.tokenisation import label_tokens
from isogloss.stages.recipe_by_name import load_recipe
from isogloss.stages.task_data import check_labels, configured_task
from isogloss.tasks import Item, Task, items, languages_of
from isogloss.training.contamination import refuse_overlap
from isogloss.training.recipe import Recipe
from isogloss.types import LanguageCode, Reasoning, Split

if TYPE_CHECKING:  # torch takes seconds to import
    from isogloss.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

BEST_RECIPE = "best.yaml"  # artifact of a tune run
RUN_ID_LENGTH = 32


class SourceData(NamedTuple):
    """A task with its training and dev items in the source's languages, one after another."""

    task: Task
    train: list[Item]
    dev: list[Item]


def source_data(config: FinetuneConfig | TuneConfig) -> SourceData:
    """The training and dev items of a configuration, as they are shown to the model.

    Each language of a pooled source contributes the same number of items. Raises DataError if a
    split is empty or a passage is in both splits, ConfigError if the licence allows no training.
    """
    task = configured_task(config)
    if task.evaluation_only:
        raise ConfigError(
            f"the licence of the data of task {task.name!r} allows evaluation alone; train on "
            "another task, then evaluate the adapter on this one."
        )
    codes = tuple(row.code for row in source_languages(config.source))
    languages_of(task, codes)
    require_wording(codes, config.prompt_language)
    dev_limit = max(1, config.dev_limit // len(codes))
    train_items = _pooled(task, codes, Split.TRAIN, config.limit)
    dev_items = _pooled(task, codes, Split.DEV, dev_limit)
    refuse_overlap(train_items, dev_items, task.name)
    shuffle_seed = config.seed if config.shuffle_options else None
    check_labels(config, task, {config.source: [*train_items, *dev_items]}, Reasoning.DIRECT)
    train_items, dev_items = (
        as_shown(rows, config.prompt_language, shuffle_seed, own_texts=task.own_texts)
        for rows in (train_items, dev_items)
    )
    return SourceData(task, train_items, dev_items)


def _pooled(
    task: Task, codes: tuple[LanguageCode, ...], split: Split, limit: int | None
) -> list[Item]:
    """The first `limit` items of each language, the same number of each."""
    by_language = [items(task, code, split, limit) for code in codes]
    fewest = min(map(len, by_language))
    return [item for rows in by_language for item in rows[:fewest]]


def fit_source_data(
    data: SourceData,
    model: "LanguageModel",
    protocol: Protocol,
    config: FinetuneConfig | TuneConfig,
) -> SourceData:
    """The data with passages shortened to the model's context window, if `long_inputs` allows it.

    Raises DataError for prompts that are too long, and ModelError if the tokenizer gives two option
    labels the same tokens.
    """
    label_tokens(model.tokenizer, data.train, protocol)
    train_items, dev_items = (
        fit_to_model(split_items, model, protocol, config).items
        for split_items in (data.train, data.dev)
    )
    return SourceData(data.task, train_items, dev_items)


def recipe_of(config: FinetuneConfig) -> Recipe:
    """The recipe of a configuration: explicit hyperparameters, then `config.recipe`, then defaults.

    Raises ConfigError for LoRA on experts with dropout.
    """
    explicit = {
        name: value
        for name in Hyperparameters.model_fields
        if (value := getattr(config, name)) is not None
    }
    from_recipe = {} if config.recipe is None else load_recipe(config.recipe, config)
    values = Hyperparameters(**{**from_recipe, **explicit}).model_dump()
    if has_experts(values["target_modules"]):
        reject_dropout(values["dropout"], values["target_modules"])
    return Recipe(
        **values, seed=config.seed, eval_every=config.eval_every, patience=config.patience
    )
