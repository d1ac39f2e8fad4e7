"""quick=true: a study or a training that is cut down for a look within a minute.

What it computes is marked by a tag and by its fingerprint, so that it is never reused for, nor
compared with, what was not cut.
"""

import logging
from collections.abc import Sequence

from isogloss.config import EvaluateConfig, FinetuneConfig, SharedConfig, StudyConfig
from isogloss.config.finetune import Hyperparameters
from isogloss.config.study import StudyTraining
from isogloss.formatting import listed
from isogloss.languages import group
from isogloss.stages.study_cells import study_models, study_seeds, study_sources
from isogloss.stages.task_data import configured_task
from isogloss.tasks import languages_of
from isogloss.types import Group, LanguageCode

logger = logging.getLogger(__name__)

ITEMS = 4  # per language
RELATED, CONTROLS = 2, 3  # languages; a contrast takes two of each
STEPS, BATCH, DEV = 4, 4, 4
NEW_TOKENS = 16
SUFFIX = "-quick"  # of the name of a study
DEFAULTS = Hyperparameters()


def quick_study(config: StudyConfig) -> StudyConfig:
    """A study without what takes time: its first model, source and seed, few languages and items.

    Logs what was cut. Raises errors of the task's data.
    """
    models, sources = study_models(config), study_sources(config)
    seeds = study_seeds(config, sources[0])
    first = sources[0].model_copy(update={"seeds": seeds[:1]})
    values = {name: getattr(config, name) for name in SharedConfig.model_fields}
    base = EvaluateConfig.model_validate(values | {"source": first.source})
    targets = languages_of(configured_task(base), config.languages)
    chosen = quick_languages(first.source, targets)
    limit = _least(ITEMS, config.limit)
    tokens = _least(NEW_TOKENS, config.max_new_tokens)
    _log_cut(
        (len(models), 1, "models"),
        (len(sources), 1, "sources"),
        (len(seeds), 1, "seeds"),
        (len(targets), len(chosen), "languages"),
        (config.limit, limit, "items per language"),
        *_cut_training(config.finetune),
    )
    if config.reasoning != "direct":
        logger.warning(f"quick: no chain of thought, and at most {tokens} generated tokens")
    return config.model_copy(
        update={
            "study": f"{config.study.removesuffix(SUFFIX)}{SUFFIX}",
            "models": models[:1] if config.models else None,
            "sources": (first,),
            "control_source": None,
            "languages": tuple(chosen),
            "limit": limit,
            "reasoning": "direct",
            "max_new_tokens": tokens,
            "finetune": config.finetune.model_copy(update=_training(config.finetune)),
            "quick": True,
        }
    )


def quick_evaluation(config: EvaluateConfig) -> EvaluateConfig:
    """An evaluation of a few items in a few languages; logs what was cut."""
    targets = languages_of(configured_task(config), config.languages)
    chosen = quick_languages(config.source, targets)
    limit = _least(ITEMS, config.limit)
    _log_cut((len(targets), len(chosen), "languages"), (config.limit, limit, "items per language"))
    tokens = _least(NEW_TOKENS, config.max_new_tokens)
    own = {"languages": tuple(chosen), "limit": limit, "max_new_tokens": tokens}
    return config.model_copy(update={**own, "quick": True})


def quick_finetune(config: FinetuneConfig) -> FinetuneConfig:
    """A fine-tuning of a few steps; logs what was cut."""
    _log_cut(*_cut_training(config))
    return config.model_copy(update={**_training(config), "quick": True})


def quick_languages(source: str, targets: Sequence[LanguageCode]) -> list[LanguageCode]:
    """The source and the first relatives and controls among the targets, in their order."""
    wanted = {Group.SOURCE: len(targets), Group.RELATED: RELATED, Group.CONTROL: CONTROLS}
    chosen: list[LanguageCode] = []
    for code in targets:
        of = group(code, source)
        if wanted.get(of, 0) > 0:
            wanted[of] -= 1
            chosen.append(code)
    return chosen


def _training(config: StudyTraining | FinetuneConfig) -> dict[str, object]:
    steps = min(config.steps or DEFAULTS.steps, STEPS)
    return {
        "steps": steps,
        "batch_size": min(config.batch_size or DEFAULTS.batch_size, BATCH),
        "eval_every": min(config.eval_every, steps),
        "dev_limit": min(config.dev_limit, DEV),
        "patience": None,
    }


def _cut_training(config: StudyTraining | FinetuneConfig) -> list[tuple[int | None, int, str]]:
    return [
        (config.steps or DEFAULTS.steps, STEPS, "steps"),
        (config.batch_size or DEFAULTS.batch_size, BATCH, "items per step"),
        (config.dev_limit, DEV, "dev items"),
    ]


def _least(most: int, value: int | None) -> int:
    return most if value is None else min(most, value)


def _log_cut(*counts: tuple[int | None, int, str]) -> None:
    """Log what is less than it was asked for; None stands for all."""
    cut = [
        f"{less} {noun} instead of {'all' if asked is None else asked}"
        for asked, less, noun in counts
        if asked is None or asked > less
    ]
    if cut:
        logger.warning(f"quick: {listed(cut)}; for a look, not for a result")
