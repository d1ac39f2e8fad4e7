"""A study: base on all targets, finetune on the source, tuned on all targets, compare; with chain
of thought, several seeds and a second source language, if they are asked for.

One process, one load of the base model, nested runs under one parent; what a finished run has
already is not done again.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import (
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    MainConfig,
    SharedConfig,
    StudyConfig,
)
from isogloss.config.study_files import read_study
from isogloss.errors import ConfigError
from isogloss.languages import group, language
from isogloss.registry.adapters import adapter_folder
from isogloss.stages.collect_runs import arrange
from isogloss.stages.compare import judge, print_verdict
from isogloss.stages.evaluate import Cells, evaluate, evaluation_data
from isogloss.stages.finetune import finetune, recipe_named, source_data
from isogloss.stages.session import Session
from isogloss.tasks import Item, Task
from isogloss.training.contamination import refuse_contamination, training_record
from isogloss.types import Group, Reasoning


def run_study(config: StudyConfig, experiment: str | None = None) -> str:
    """Run a study and return the id of its compare run.

    What is finished is reused. Parameters and data that cannot be used are refused before the first
    run.
    """
    session = Session.of(config)
    reasonings: list[Reasoning] = list(Reasoning)
    if config.reasoning != "both":
        reasonings = [Reasoning(config.reasoning)]
    sources = [config.source, *filter(None, [config.control_source])]
    seeds = config.seeds or (config.seed,)
    asked = {name: getattr(config, name) for name in SharedConfig.model_fields}

    def evaluation(source: str, reasoning: Reasoning) -> EvaluateConfig:
        # All adapters are asked alike: `seed`, and not theirs, draws the order of options.
        return EvaluateConfig(
            **{**asked, "source": source},
            languages=config.languages,
            split=config.split,
            reasoning=reasoning,
            max_new_tokens=config.max_new_tokens if reasoning == Reasoning.COT else None,
        )

    def training(source: str, seed: int) -> FinetuneConfig:
        return FinetuneConfig(
            **{**asked, **config.finetune.model_dump(), "source": source, "seed": seed}
        )

    task, data = evaluation_data(evaluation(config.source, reasonings[0]))
    _refuse_early(config, task, data, [training(source, seeds[0]) for source in sources])
    session.protocol(training(config.source, seeds[0]), task)
    n_adapters = len(sources) * len(seeds)
    cells = Cells(len(reasonings) * len(data) * (1 + n_adapters) + n_adapters)
    tags = {
        name: str(getattr(config, name)) for name in ("model", "source", "reasoning", "study")
    } | {
        "task": task.name,
        "format": config.format or task.format,
        "seeds": ",".join(map(str, seeds)),
    }
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        stack.enter_context(tracking.open_run("study", config.study, config, tags, experiment))

        def keep(run: Run) -> None:
            runs[run.info.run_id] = run

        for reasoning in reasonings:
            keep(evaluate(evaluation(config.source, reasoning), session, cells))
        for source, seed in product(sources, seeds):
            label = f"finetune · {language(source).name}, seed {seed}"
            trained = finetune(training(source, seed), session, cells.next(label))
            adapter = (
                trained.data.tags["isogloss.adapter"],
                partial(_folder, stack, trained.info.run_id),
            )
            for reasoning in reasonings:
                evaluating = evaluation(source, reasoning).model_copy(
                    update={"adapter": trained.info.run_id}
                )
                keep(evaluate(evaluating, session, cells, adapter))
        mlflow.set_tag("isogloss.cells", " ".join(runs))
        judging = CompareConfig(
            study=(config.study,), source=config.source, **config.compare.model_dump()
        )
        compared = judge(arrange(runs.values()), judging)
        # What the study found is what its compare run found, reused or not.
        found = ("isogloss.adapter", "isogloss.fingerprint", "isogloss.verdict")
        for name in (*found, "mlflow.note.content"):
            mlflow.set_tag(name, compared.data.tags[name])
    print_verdict(compared)
    return str(compared.info.run_id)


def _refuse_early(
    config: StudyConfig,
    task: Task,
    data: Mapping[str, list[Item]],
    trainings: Iterable[FinetuneConfig],
) -> None:
    """Raise what would otherwise be raised hours later: overlaps, groups that are too small."""
    everything = [item for rows in data.values() for item in rows]
    for training in trainings:
        train_items = source_data(training).train
        refuse_contamination(training_record(task.name, train_items), task.name, everything, [])
    groups = [group(code, config.source, config.compare.branch) for code in data]
    for name in (Group.RELATED, Group.CONTROL):
        if groups.count(name) < 2:
            raise ConfigError(
                f"a contrast needs two related and two control languages, but of the languages of "
                f"study {config.study!r} {groups.count(name)} are {name} to {config.source}; "
                f"choose other languages or another branch."
            )


def _folder(stack: ExitStack, run_id: str) -> Path:
    return stack.enter_context(adapter_folder(run_id))


def run_main(config: MainConfig) -> None:
    """The entry point `main`."""
    overrides = {
        name: value
        for name, value in config.model_dump(exclude={"study", "experiment", "recipe"}).items()
        if value != "file"
    }
    study = read_study(Path(config.study), overrides)
    if config.recipe != "file":
        recipe = recipe_named(config.recipe, study)
        study = read_study(Path(config.study), overrides, recipe)
    run_study(study, config.experiment)
    print(f"every run of it: `mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}`")
