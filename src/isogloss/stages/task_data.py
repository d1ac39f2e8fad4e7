"""The items that parameters describe, as prompts show them; no model is needed to read them."""

from collections.abc import Mapping, Sequence

from isogloss.config import EvaluateConfig, SharedConfig
from isogloss.errors import ConfigError, DataError
from isogloss.files import user_path
from isogloss.languages import language, source_languages
from isogloss.prompts.labels import require_labels
from isogloss.prompts.render import as_shown, require_instruction, require_wording
from isogloss.tasks import Item, Task, languages_of, open_task, parallel_items
from isogloss.tasks.hub import cached_only
from isogloss.tasks.published_split import with_test_items
from isogloss.types import Format, Labels, LanguageCode, PromptLanguage, Reasoning


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


def check_languages(targets: Sequence[str] | None, sources: Sequence[str]) -> None:
    """Raise ConfigError for an unknown language."""
    for source in sources:
        source_languages(source)
    for code in targets or ():
        language(code)


def check_task(config: SharedConfig, codes: Sequence[str]) -> None:
    """Raise ConfigError for a language that the task lacks, DataError if `data_dir` is not there.

    For what is known at once: no folder is searched, and the network is not used.
    """
    if config.data_dir is not None and user_path(config.data_dir).exists():
        return
    try:
        with cached_only():
            task = open_task(config.task, config.data_dir)
    except DataError:
        if config.data_dir is None:  # the data are on the Hub
            return
        raise
    languages_of(task, tuple(codes))


def evaluation_data(config: EvaluateConfig) -> tuple[Task, dict[LanguageCode, list[Item]]]:
    """The task, and the items of each target language as prompts show them."""
    task = configured_task(config)
    source_languages(config.source)
    targets = languages_of(task, config.languages)
    require_wording(targets, config.prompt_language)
    shuffle_seed = config.seed if config.shuffle_options else None
    shown = {
        code: as_shown(rows, config.prompt_language, shuffle_seed, own_texts=task.own_texts)
        for code, rows in parallel_items(task, targets, config.split, config.limit).items()
    }
    check_labels(config, task, shown, config.reasoning)
    return task, shown


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
