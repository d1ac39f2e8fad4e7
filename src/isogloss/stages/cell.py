"""One cell of a study as one command, which any machine can run and any launcher can repeat.

A cell that has finished is found by its fingerprint and not computed again, and two processes that
are given the same cell do it once (see `tracking.reuse`).
"""

import hashlib
import json
import logging
import re
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial

from mlflow.entities import Run

from isogloss.config import CellConfig, CellsConfig, StudyConfig
from isogloss.errors import ConfigError, DataError, LeaseLostError, ModelError, StudyError
from isogloss.formatting import aligned, did_you_mean
from isogloss.logs import bars_of
from isogloss.models.locate import on_this_machine, require_known
from isogloss.registry.lookup import AdapterRef, adapter_folder, adapter_problem
from isogloss.stages.configured_study import configured_study
from isogloss.stages.evaluation_plan import plan_evaluation
from isogloss.stages.finetune_plan import plan_finetune
from isogloss.stages.session import Session
from isogloss.stages.study_cells import EvaluateCell, FinetuneCell, StudyCell, study_cells
from isogloss.tracking import RunKind, choose_experiment, find_finished, tag
from isogloss.tracking.leases import say_local_exclusion
from isogloss.tracking.runs import child_of

logger = logging.getLogger(__name__)

LONGEST_MODEL = 60  # characters of a model's name in the id of a cell
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")  # in file names, job names and URLs


@dataclass(frozen=True)
class CellState:
    """A cell of a study and its finished run; `finished` is None where it cannot be known here.

    `needs` is the id of the cell whose adapter it evaluates.
    """

    id: str
    kind: str
    label: str
    model: str
    needs: str | None
    finished: bool | None
    run: str | None


def cell_id(cell: StudyCell) -> str:
    """The name of a cell: unique in its study, the same everywhere, and safe in a file name.

    MODEL.base, MODEL.finetune.SOURCE.seedN or MODEL.tuned.SOURCE.seedN; with chain of thought
    MODEL.base-cot and MODEL.tuned-cot.SOURCE.seedN.
    """
    kind = "finetune" if isinstance(cell, FinetuneCell) else str(cell.condition)
    parts = [_model_part(cell.model_label or cell.config.model), kind.replace("+", "-")]
    finetuned = cell if isinstance(cell, FinetuneCell) else cell.finetuned
    if finetuned:
        parts += [finetuned.config.source.replace("+", "-"), f"seed{finetuned.config.seed}"]
    return ".".join(parts)


def _model_part(name: str) -> str:
    """A model's name in the id of a cell: its last part, with a digest if it has other parts."""
    short = UNSAFE.sub("-", name.rstrip("/").rpartition("/")[2]).strip("-")[:LONGEST_MODEL]
    if short == name:
        return short
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def cells_by_id(study: StudyConfig) -> dict[str, StudyCell]:
    """The cells of a study by their ids, in the order in which one process runs them."""
    return {cell_id(cell): cell for cell in study_cells(study)}


def find_cell(study: StudyConfig, name: str) -> StudyCell:
    """The cell of that id; ConfigError if the study has none such."""
    cells = cells_by_id(study)
    if name not in cells:
        raise ConfigError(
            f"study {study.study!r} has no cell {name!r}; it has {', '.join(list(cells)[:8])}"
            f"{f' and {len(cells) - 8} more' if len(cells) > 8 else ''} (see `isogloss cells`)"
            f"{did_you_mean(name, cells)}"
        )
    return cells[name]


def run_cell(
    study: StudyConfig,
    cell_id: str,
    experiment: str | None = None,
    parent: str | None = None,
    session: Session | None = None,
) -> Run:
    """Run one cell of a study and return its run; returns the finished run if there is one.

    `parent` is the id of the run of which a new run becomes a child; it decides the experiment.
    `session` is the model of the cell, where it is in memory already. Raises ConfigError for an
    unknown id, and StudyError if the cell evaluates an adapter that is not trained yet.
    """
    cell = find_cell(study, cell_id)
    with child_of(parent) if parent else nullcontext(), bars_of(cell.short):
        return do_cell(cell, session or Session.of(cell.config), cell.label, experiment=experiment)


def do_cell(
    cell: StudyCell,
    session: Session,
    label: str,
    finetuned: Run | None = None,
    experiment: str | None = None,
) -> Run:
    """Run a cell; `finetuned` is the run of its adapter, which is looked up if it is None.

    `label` begins each line of progress. If another process takes the cell over, because this one
    was stopped for some time, its run is returned.
    """
    try:
        return _do_cell(cell, session, label, finetuned, experiment)
    except LeaseLostError:
        logger.warning(f"{label}: the results are those of the process that took it over")
        return _do_cell(cell, session, label, finetuned, experiment)


def _do_cell(
    cell: StudyCell, session: Session, label: str, finetuned: Run | None, experiment: str | None
) -> Run:
    # Here and below: torch and transformers take seconds, which `cells` does not need.
    from isogloss.stages.evaluate import evaluate
    from isogloss.stages.finetune import finetune

    own = {} if experiment is None else {"experiment": experiment}
    if isinstance(cell, FinetuneCell):
        return finetune(cell.config.model_copy(update=own), session, label)
    if cell.finetuned is None:
        return evaluate(cell.config.model_copy(update=own), session, label=label)
    run = finetuned or finished_run(cell.finetuned, session, choose_experiment(experiment))
    if run is None:
        raise StudyError(
            f"cell {cell_id(cell)!r} evaluates an adapter that is not trained yet; run cell "
            f"{cell_id(cell.finetuned)!r} first."
        )
    run_id = run.info.run_id
    adapter = AdapterRef(str(tag(run, "adapter")), partial(adapter_folder, run_id))
    config = cell.config.model_copy(update={**own, "adapter": (run_id,)})
    return evaluate(config, session, adapter, label)


def finished_run(
    cell: StudyCell, session: Session, experiment_id: str, finetuned: Run | None = None
) -> Run | None:
    """The finished run of a cell, by its fingerprint; None if there is none that can be used.

    `finetuned` is the run of its adapter; without one, an evaluation of an adapter has no run.
    """
    if isinstance(cell, FinetuneCell):
        plan = plan_finetune(cell.config, session)
        return find_finished(RunKind.FINETUNE, plan.fingerprint, experiment_id, adapter_problem)
    if cell.finetuned and finetuned is None:
        return None
    adapter = tag(finetuned, "adapter") if finetuned else None
    evaluation = plan_evaluation(cell.config, session, adapter)
    return find_finished(RunKind.EVALUATE, evaluation.fingerprint, experiment_id)


def cell_states(study: StudyConfig, experiment: str | None = None) -> list[CellState]:
    """Which cells of a study have finished in an experiment.

    That is not known of a model whose files are not on this machine, nor without the data.
    """
    experiment_id = choose_experiment(experiment)
    runs: dict[StudyCell, Run] = {}
    here: dict[str, bool] = {}
    cells = study_cells(study)
    sessions = {cell.config.model: Session.of(cell.config) for cell in cells}  # read files once
    states = []
    for cell in cells:
        model = cell.config.model
        if model not in here:
            here[model] = _is_here(sessions[model])
        finetuned = cell.finetuned if isinstance(cell, EvaluateCell) else None
        finished = None
        if here[model]:
            try:
                adapter = runs.get(finetuned) if finetuned else None
                run = finished_run(cell, sessions[model], experiment_id, adapter)
            except (ConfigError, DataError, ModelError) as error:
                logger.warning(f"whether {cell.label} has finished is not known: {error}")
            else:
                finished = run is not None
                runs |= {cell: run} if run else {}
        states.append(
            CellState(
                id=cell_id(cell),
                kind="finetune" if isinstance(cell, FinetuneCell) else "evaluate",
                label=cell.label,
                model=model,
                needs=cell_id(finetuned) if finetuned else None,
                finished=finished,
                run=runs[cell].info.run_id if cell in runs else None,
            )
        )
    return states


def _is_here(session: Session) -> bool:
    """Whether the cells of a session can be looked for: its model is served, or its files are here.

    The session is told where they are: no weights are read again to be sure of them.
    """
    if session.served:
        return True
    location = on_this_machine(session.name)
    if location is not None:
        session.files = location
    return location is not None


def check_cell(study: StudyConfig, cell: StudyCell, session: Session) -> None:
    """Check a study as far as it concerns one cell; raises what would stop the cell later."""
    from isogloss.stages.preflight import check_study

    finetuned = cell.finetuned if isinstance(cell, EvaluateCell) else cell
    cells = [
        other
        for other in study_cells(study)
        if other.config.model == cell.config.model
        and (not isinstance(other, EvaluateCell) or other.finetuned in (None, finetuned))
        and (not isinstance(other, FinetuneCell) or other == finetuned)
    ]
    unusable = check_study(study, {cell.config.model: session}, cells).unusable
    if cell in unusable:
        raise ModelError(unusable[cell])


def run_cell_command(config: CellConfig) -> str:
    """The command `cell`; returns the id of the run of the cell."""
    say_local_exclusion()
    study = configured_study(config)
    cell = find_cell(study, config.cell)
    session = Session.of(cell.config)
    if not session.served:
        require_known(session.name)  # before torch is imported
    check_cell(study, cell, session)
    run = run_cell(study, config.cell, config.experiment, config.parent, session)
    print(f"cell {config.cell}\nrun {run.info.run_id}")
    return str(run.info.run_id)


def run_cells_command(config: CellsConfig) -> None:
    """The command `cells`: print the cells of a study, as a table or as JSON."""
    states = cell_states(configured_study(config), config.experiment)
    if config.json_output:
        print(json.dumps([asdict(state) for state in states], indent=2, ensure_ascii=False))
        return
    words = {True: "yes", False: "no", None: "unknown"}
    rows = [(state.id, state.kind, words[state.finished], state.run or "") for state in states]
    print(aligned([("cell", "kind", "finished", "run"), *rows]))
    done = sum(state.finished is True for state in states)
    print(f"{done} of {len(states)} cells have finished.")
