"""A study: base on all targets, finetune on the source, tuned on all targets, compare; with chain
of thought too, if it is asked for.

One process, one load of the base model, nested runs under one parent; what a finished run has
already is not done again.
"""

from contextlib import ExitStack
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.comparing import compare_runs, print_verdict
from isogloss.config import (
    AskConfig,
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    MainConfig,
    StudyConfig,
    read_study,
)
from isogloss.contamination import record, refuse_contamination
from isogloss.errors import ConfigError
from isogloss.evaluation import Cells, evaluate, evaluation_data
from isogloss.finetuning import finetune, source_data
from isogloss.languages import group
from isogloss.prompts import Reasoning
from isogloss.registry import adapter_folder
from isogloss.session import Session


def run_study(config: StudyConfig, experiment: str | None = None) -> str:
    """Run a study and return the id of its compare run, that of `tuned` if there are several.

    What is finished is reused. Parameters and data that cannot be used are refused before the first
    run.
    """
    shared = {name: getattr(config, name) for name in AskConfig.model_fields}
    session = Session(config.model, config.dtype)
    reasonings: list[Reasoning] = ["direct", "cot"]
    if config.reasoning != "both":
        reasonings = [config.reasoning]
    evaluations = {
        reasoning: EvaluateConfig(
            **shared,
            languages=config.languages,
            split=config.split,
            reasoning=reasoning,
            max_new_tokens=config.max_new_tokens if reasoning == "cot" else None,
        )
        for reasoning in reasonings
    }
    training = FinetuneConfig(**{**shared, **config.finetune.model_dump()})
    task, train_items, _ = source_data(training)
    _, data = evaluation_data(evaluations[reasonings[0]])
    everything = [item for rows in data.values() for item in rows]
    refuse_contamination(record(task.name, train_items), task.name, everything, [])
    groups = [group(code, config.source, config.compare.branch) for code in data]
    for name in ("related", "control"):
        if groups.count(name) < 2:
            raise ConfigError(
                f"a contrast needs two related and two control languages, but of the languages of "
                f"study {config.study!r} {groups.count(name)} are {name} to {config.source}; "
                f"choose other languages or another branch."
            )
    session.protocol(training, task)
    cells = Cells(2 * len(reasonings) * len(data) + 1)
    tags = {
        name: str(getattr(config, name)) for name in ("model", "source", "reasoning", "study")
    } | {"task": task.name, "format": config.format or task.format}
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        stack.enter_context(tracking.run("study", config.study, config, tags, experiment))
        for evaluation in evaluations.values():
            run = evaluate(evaluation, session, cells)
            runs[run.data.tags["isogloss.condition"]] = run
        trained = finetune(training, session, cells.next("finetune"))
        adapter = trained.data.tags["isogloss.adapter"]
        for evaluation in evaluations.values():
            run = evaluate(
                evaluation.model_copy(update={"adapter": trained.info.run_id}),
                session,
                cells,
                (adapter, lambda: stack.enter_context(adapter_folder(trained.info.run_id))),
            )
            runs[run.data.tags["isogloss.condition"]] = run
        mlflow.set_tags(
            {
                "isogloss.cells": " ".join(run.info.run_id for run in runs.values()),
                "isogloss.condition": " ".join(runs),
            }
        )
        compared = _compare(runs, config)
        # What the study found is what its compare run found, reused or not.
        found = ("isogloss.adapter", "isogloss.fingerprint", "isogloss.verdict")
        for name in (*found, "mlflow.note.content"):
            mlflow.set_tag(name, compared[0].data.tags[name])
    for run in compared:
        print_verdict(run)
    return str(compared[0].info.run_id)


def _compare(runs: dict[str, Run], config: StudyConfig) -> list[Run]:
    """Each other condition against the base; the adapter's effect first."""
    judging = CompareConfig(study=config.study, source=config.source, **config.compare.model_dump())
    if "base" not in runs:
        return [compare_runs(runs["base+cot"], runs["tuned+cot"], judging)]
    order = [name for name in ("tuned", "base+cot", "tuned+cot") if name in runs]
    return [compare_runs(runs["base"], runs[name], judging) for name in order]


def run_main(config: MainConfig) -> None:
    """The entry point `main`."""
    overrides = {
        name: value
        for name, value in config.model_dump(exclude={"study", "experiment"}).items()
        if value != "file"
    }
    run_study(read_study(Path(config.study), overrides), config.experiment)
    print("`make ui` opens MLflow with every run of it.")
