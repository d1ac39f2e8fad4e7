"""What finetune and tune train on: source-language data and the recipe."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from isogloss.config import FinetuneConfig, Hyperparameters, SharedConfig, TuneConfig
from isogloss.config.study_files import read_recipe, recipe_values
from isogloss.errors import ConfigError
from isogloss.files import load_yaml, looked_for
from isogloss.inference.context_window import fit_to_model
from isogloss.languages import source_languages
from isogloss.models.language_model import LanguageModel
from isogloss.models.lora import has_experts, reject_dropout
from isogloss.prompts.labels import require_labels
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import as_shown, require_instruction, require_wording
from isogloss.prompts.tokenisation import label_tokens
from isogloss.tasks import Item, Task, items, languages_of, open_task
from isogloss.tasks.published_split import with_test_items
from isogloss.tracking import RunKind, tag
from isogloss.tracking.server import hides_artifacts
from isogloss.tracking.similar import similar_runs
from isogloss.training.contamination import refuse_overlap
from isogloss.training.recipe import Recipe
from isogloss.types import Format, Labels, LanguageCode, PromptLanguage, Reasoning, Split

logger = logging.getLogger(__name__)

BEST_RECIPE = "best.yaml"  # artifact of a tune run
RUN_ID_LENGTH = 32


class SourceData(NamedTuple):
    """A task with its training and dev items in the source's languages, one after another."""

    task: Task
    train: list[Item]
    dev: list[Item]


def configured_task(config: SharedConfig) -> Task:
    """The task of a configuration, with the splits that it asks for.

    Raises ConfigError for shared passages without a number of test items, and for prompts in
    another language if the task's question is in English alone.
    """
    task = open_task(config.task, config.data_dir)
    if task.english_only and config.prompt_language != PromptLanguage.ENGLISH:
        raise ConfigError(
            f"prompt_language is {str(config.prompt_language)!r}, but the question of task "
            f"{task.name!r} is in English in every language; expected prompt_language=english."
        )
    if config.test_items is not None:
        return with_test_items(task, config.test_items, share_passages=config.share_passages)
    if config.share_passages:
        raise ConfigError("share_passages needs test_items, the number of test items.")
    return task


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


def check_labels(
    config: SharedConfig,
    task: Task,
    items_by_language: Mapping[LanguageCode, Sequence[Item]],
    reasoning: Reasoning,
) -> None:
    """Raise ConfigError or DataError for labels that prompts could not show or ask for."""
    if (config.format or task.format) == Format.CLOZE:
        if config.labels != Labels.LETTERS:
            raise ConfigError(
                f"labels is {str(config.labels)!r}, but prompts in cloze format show no labels; "
                "expected labels=letters, format=letter or format=generate."
            )
        return
    require_instruction(items_by_language, config.prompt_language, config.labels, reasoning)
    for rows in items_by_language.values():
        require_labels(rows, config.labels)


def _pooled(
    task: Task, codes: tuple[LanguageCode, ...], split: Split, limit: int | None
) -> list[Item]:
    """The first `limit` items of each language, the same number of each."""
    by_language = [items(task, code, split, limit) for code in codes]
    fewest = min(map(len, by_language))
    return [item for rows in by_language for item in rows[:fewest]]


def fit_source_data(
    data: SourceData,
    model: LanguageModel,
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


def load_recipe(recipe: str, config: SharedConfig) -> dict[str, Any]:  # YAML
    """Hyperparameters from a YAML file, or from the best recipe of a tune run given by its id.

    Logs in what the search of that run differs from `config`. Raises ConfigError if there is no
    such recipe.
    """
    if Path(recipe).exists() or len(recipe) != RUN_ID_LENGTH:
        return read_recipe(Path(recipe))
    try:
        run = mlflow.get_run(recipe)
        text = mlflow.artifacts.load_text(f"runs:/{recipe}/{BEST_RECIPE}")
    except (MlflowException, OSError) as error:
        if hides_artifacts(error):
            raise
        raise ConfigError(
            f"recipe {recipe!r} is neither a file nor the id of a tune run{looked_for(recipe)}"
            f"{similar_runs(recipe, RunKind.TUNE)}"
        ) from error
    differences = []
    for name in ("model", "task", "source", "format", "labels", "prompt_language"):
        searched = tag(run, "answer_labels" if name == "labels" else name)
        current = getattr(config, name)
        if searched is not None and current not in (None, searched):
            differences.append(f"{name} {searched} (here {current})")
    if differences:
        logger.info(f"the recipe comes from a search with {', '.join(differences)}")
    return recipe_values(
        load_yaml(text, f"the recipe of run {recipe!r}", ConfigError), repr(recipe)
    )
