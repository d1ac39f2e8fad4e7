"""A study: base on all targets, fine-tuning, tuned on all targets, comparison.

Optionally with chain of thought, several seeds and a control source. One process loads the base
model once and runs every cell as a child of one parent run; cells that have finished are reused.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import CompareConfig, MainConfig, StudyConfig
from isogloss.config.study_files import read_study
from isogloss.errors import ConfigError
from isogloss.languages import group
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.collect_runs import group_runs
from isogloss.stages.compare import compare_runs, print_verdict
from isogloss.stages.evaluate import evaluate, evaluation_data
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.study_cells import (
    EvaluateCell,
    FinetuneCell,
    StudyCell,
    study_cells,
    study_seeds,
)
from isogloss.stages.training_inputs import load_recipe, source_data
from isogloss.tasks import Task
from isogloss.tracking import RunKind, tag
from isogloss.tracking.tags import PREFIX
from isogloss.training.contamination import refuse_contamination, training_record
from isogloss.types import Group

# Tags that the study's run takes over from its comparison, whether that was reused or not.
RESULT_TAGS = (
    f"{PREFIX}adapter",
    f"{PREFIX}fingerprint",
    f"{PREFIX}verdict",
    "mlflow.note.content",
)


def run_study(config: StudyConfig, experiment: str | None = None) -> str:
    """Run a study and return the id of its compare run.

    Finished cells are reused. Unusable parameters and data raise before the first run is opened.
    """
    session = Session.of(config)
    cells = study_cells(config)
    task = _check_before_start(config, session, cells)
    tags = {
        "model": config.model,
        "source": config.source,
        "reasoning": config.reasoning,
        "study": config.study,
        "task": task.name,
        "format": config.format or task.format,
        "seeds": ",".join(map(str, study_seeds(config))),
    }
    with tracking.open_run(RunKind.STUDY, config.study, config, tags, experiment):
        runs = _run_cells(cells, session)
        mlflow.set_tag(f"{PREFIX}cells", " ".join(runs))
        comparison = CompareConfig(
            study=(config.study,), source=config.source, **config.compare.model_dump()
        )
        compared = compare_runs(group_runs(runs.values()), comparison)
        mlflow.set_tags({name: compared.data.tags[name] for name in RESULT_TAGS})
    print_verdict(compared)
    return str(compared.info.run_id)


def _run_cells(cells: Sequence[StudyCell], session: Session) -> dict[str, Run]:
    """Run the cells in order; return the evaluate runs by id."""
    finetuned: dict[FinetuneCell, Run] = {}
    evaluated: dict[str, Run] = {}
    for number, cell in enumerate(cells, 1):
        label = f"cell {number} of {len(cells)} · {cell.label}"
        if isinstance(cell, FinetuneCell):
            finetuned[cell] = finetune(cell.config, session, label)
        else:
            run = _evaluate_cell(cell, finetuned, session, label)
            evaluated[run.info.run_id] = run
    return evaluated


def _evaluate_cell(
    cell: EvaluateCell, finetuned: dict[FinetuneCell, Run], session: Session, label: str
) -> Run:
    if cell.finetuned is None:
        return evaluate(cell.config, session, label=label)
    run = finetuned[cell.finetuned]
    run_id = run.info.run_id
    adapter = AdapterRef(str(tag(run, "adapter")), partial(adapter_folder, run_id))
    config = cell.config.model_copy(update={"adapter": run_id})
    return evaluate(config, session, adapter, label)


def _check_before_start(config: StudyConfig, session: Session, cells: Sequence[StudyCell]) -> Task:
    """Raise errors now that would otherwise occur after hours; return the task.

    Raises DataError if training data are among the items to be evaluated, and ConfigError if the
    contrast has fewer than two languages in a group.
    """
    base = next(cell for cell in cells if isinstance(cell, EvaluateCell))
    task, items_by_language = evaluation_data(base.config)
    all_items = [item for rows in items_by_language.values() for item in rows]
    trainings = {
        cell.config.source: cell.config for cell in cells if isinstance(cell, FinetuneCell)
    }
    for training in trainings.values():
        train_items = source_data(training).train
        refuse_contamination(training_record(task.name, train_items), task.name, all_items, [])
    groups = [group(code, config.source, config.compare.branch) for code in items_by_language]
    relations = {Group.RELATED: f"related to {config.source}", Group.CONTROL: "controls"}
    for name, relation in relations.items():
        if groups.count(name) < 2:
            raise ConfigError(
                f"a contrast needs two related and two control languages, but of the languages of "
                f"study {config.study!r} {groups.count(name)} are {relation}; "
                f"choose other languages or another branch."
            )
    session.protocol(base.config, task)
    return task


def run_main(config: MainConfig) -> str:
    """The entry point `main`; returns the id of the compare run."""
    overrides = {
        name: value
        for name, value in config.model_dump(exclude={"study", "experiment", "recipe"}).items()
        if value != "file"
    }
    study = read_study(Path(config.study), overrides)
    if config.recipe != "file":
        recipe = load_recipe(config.recipe, study)
        study = read_study(Path(config.study), overrides, recipe)
    run_id = run_study(study, config.experiment)
    print(f"all runs: `mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}`")
    return run_id
