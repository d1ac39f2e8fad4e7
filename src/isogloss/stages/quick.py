"""quick=true: a study or a training that is cut down for a look within a minute.

What it computes is marked by a tag and by its fingerprint, so that it is never reused for, nor
compared with, what was not cut.
"""

import logging
from collections.abc import Sequence
from itertools import islice

from isogloss.config import EvaluateConfig, FinetuneConfig, SharedConfig, StudyConfig
from isogloss.config.finetune import Hyperparameters
from isogloss.config.study import StudySource, StudyTraining
from isogloss.formatting import listed
from isogloss.languages import group, is_mixed, source_branch
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
    """A study without what takes time: its first model and seed, few languages and items.

    Of several sources there are two, of different branches: each is a control of the other. Logs
    what was cut. Raises errors of the task's data.
    """
    models, sources = study_models(config), study_sources(config)
    seeds = study_seeds(config, sources[0])
    kept = [
        source.model_copy(update={"seeds": study_seeds(config, source)[:1]})
        for source in quick_sources(sources)
    ]
    values = {name: getattr(config, name) for name in SharedConfig.model_fields}
    base = EvaluateConfig.model_validate(values | {"source": kept[0].source})
    targets = languages_of(configured_task(base), config.languages)
    chosen = quick_languages(*(source.source for source in kept), targets=targets)
    limit = _least(ITEMS, config.limit)
    tokens = _least(NEW_TOKENS, config.max_new_tokens)
    _log_cut(
        (len(models), 1, "models"),
        (len(sources), len(kept), "sources"),
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
            "sources": tuple(kept),
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
    chosen = quick_languages(config.source, targets=targets)
    limit = _least(ITEMS, config.limit)
    _log_cut((len(targets), len(chosen), "languages"), (config.limit, limit, "items per language"))
    tokens = _least(NEW_TOKENS, config.max_new_tokens)
    own = {"languages": tuple(chosen), "limit": limit, "max_new_tokens": tokens}
    return config.model_copy(update={**own, "quick": True})


def quick_finetune(config: FinetuneConfig) -> FinetuneConfig:
    """A fine-tuning of a few steps; logs what was cut."""
    _log_cut(*_cut_training(config))
    return config.model_copy(update={**_training(config), "quick": True})


def quick_sources(sources: Sequence[StudySource]) -> list[StudySource]:
    """The first source, and the next one of another branch: a source of several has none."""
    first = sources[0]
    if is_mixed(first.source):
        return [first]
    own = source_branch(first.source)
    others = (
        source
        for source in sources[1:]
        if not is_mixed(source.source) and source_branch(source.source) != own
    )
    return [first, *islice(others, 1)]


def quick_languages(
    source: str, other: str | None = None, *, targets: Sequence[LanguageCode]
) -> list[LanguageCode]:
    """The source and the first relatives and controls among the targets, in their order.

    With another source, the controls are that one and its first relatives, if there are any.
    """
    groups = {code: group(code, source) for code in targets}
    relatives = [code for code in targets if groups[code] == Group.RELATED][:RELATED]
    controls = [code for code in targets if groups[code] == Group.CONTROL]
    if other is not None:
        nearness = {Group.SOURCE: 0, Group.RELATED: 1}
        controls.sort(key=lambda code: nearness.get(group(code, other), 2))
    chosen = {*relatives, *controls[:CONTROLS]}
    return [code for code in targets if code in chosen or groups[code] == Group.SOURCE]


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
