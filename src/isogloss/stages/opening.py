"""What a command checks and says before it imports torch and MLflow, which takes seconds."""

from contextlib import nullcontext, suppress
from pathlib import Path

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
from isogloss.config.engine import Engine, is_address
from isogloss.config.study import KEEP_FILE
from isogloss.config.study_files import read_recipe
from isogloss.errors import ConfigError, DataError, ModelError
from isogloss.languages import JOIN
from isogloss.stages.configured_study import study_in_file
from isogloss.stages.recipe_by_name import may_be_run
from isogloss.stages.run_names import run_name
from isogloss.stages.study_cells import study_models, study_sources
from isogloss.stages.task_data import check_languages, check_task


def opening(config: BaseModel) -> str | None:
    """What a command is about to do, in one line; None for one that answers soon by itself.

    Raises ConfigError for an invalid file of a study or recipe, and for a language that is unknown
    or that the task lacks; DataError if `data_dir` is not there.
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
            if isinstance(config, FinetuneConfig) and config.recipe is not None:
                _check_recipe(config.recipe)
            what = "finetune" if isinstance(config, FinetuneConfig) else "tune"
            return run_name(what, [config.model], [config.source], config.task, config.seed)
        case RegisterConfig():
            return f"register {config.adapter}"
    return None


def _of_study(config: MainConfig) -> str | None:
    study = study_in_file(config)
    if config.recipe != KEEP_FILE:
        _check_recipe(config.recipe)
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


def _check_recipe(recipe: str) -> None:
    if not may_be_run(recipe):
        read_recipe(Path(recipe))


def require_models(config: BaseModel) -> None:
    """Raise what `locate` would for the names of a command's models: what no file or Hub has.

    ModelError; ConfigError for those of a study, all of them. A dry run and a list of cells say
    what is known without the model, and a server is asked for its own.
    """
    match config:
        case EvaluateConfig() | FinetuneConfig() | TuneConfig():
            _require_model(config.model, config.engine)
        case CellConfig() | CellsConfig():
            return
        case MainConfig() if not config.dry_run:
            study = study_in_file(config)
            models = study_models(study)
            problems = []
            for model in models[:1] if study.quick else models:
                try:
                    _require_model(model.name, model.engine or study.engine)
                except ModelError as error:
                    problems.append(str(error))
            if problems:
                raise ConfigError("\n".join(problems))


def _require_model(name: str, engine: Engine | None) -> None:
    if is_address(name) or (engine is not None and engine.serves):
        return
    from isogloss.models.locate import require_known  # not for a server's model

    require_known(name)
