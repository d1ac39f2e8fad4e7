"""What a command checks and says before it imports torch and MLflow, which takes seconds."""

from contextlib import nullcontext, suppress

from pydantic import BaseModel

from isogloss.config import (
    CellConfig,
    CellsConfig,
    EvaluateConfig,
    FinetuneConfig,
    MainConfig,
    RegisterConfig,
    TuneConfig,
)
from isogloss.errors import DataError
from isogloss.languages import JOIN
from isogloss.stages.configured_study import study_in_file
from isogloss.stages.run_names import run_name
from isogloss.stages.study_cells import study_models, study_sources
from isogloss.stages.task_data import check_languages, check_task


def opening(config: BaseModel) -> str | None:
    """What a command is about to do, in one line; None for one that answers soon by itself.

    Raises ConfigError for an invalid study file, and for a language that is unknown or that the
    task lacks; DataError if `data_dir` is not there.
    """
    match config:
        case MainConfig():
            return _of_study(config)
        case EvaluateConfig():
            check_languages(config.languages, [config.source])
            check_task(config, config.languages or ())
            adapters = " ".join(config.adapter or ())
            return run_name("evaluate", [config.model], [], config.task, adapter=adapters)
        case FinetuneConfig() | TuneConfig():
            check_languages(None, [config.source])
            check_task(config, config.source.split(JOIN))
            what = "finetune" if isinstance(config, FinetuneConfig) else "tune"
            return run_name(what, [config.model], [config.source], config.task, config.seed)
        case RegisterConfig():
            return f"register {config.adapter}"
    return None


def _of_study(config: MainConfig) -> str | None:
    study = study_in_file(config)
    sources = [source.source for source in study_sources(study)]
    # A dry run assumes how many items there are where the data are not.
    with suppress(DataError) if config.dry_run else nullcontext():
        check_task(study, [*(study.languages or ()), *JOIN.join(sources).split(JOIN)])
    if isinstance(config, CellsConfig):  # prints a list that programs read
        return None
    models = [model.label or model.name for model in study_models(study)]
    name = run_name(f"study {study.study}", models, sources, study.task)
    if isinstance(config, CellConfig):
        return f"cell {config.cell} of {name}"
    return f"dry run of {name}" if config.dry_run else name
