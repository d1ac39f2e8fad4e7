"""The commands of the entry points, each of which imports its stage when it runs."""

from collections.abc import Callable

import click

from isogloss.cli.command import stage_command
from isogloss.config import (
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    ImportConfig,
    MainConfig,
    PlanConfig,
    RegisterConfig,
    TuneConfig,
)


def _main(config: MainConfig) -> None:
    from isogloss.launchers.studies import run_main

    run_main(config)


def _tune(config: TuneConfig) -> None:
    from isogloss.stages.tune import run_tune

    run_tune(config)


def _finetune(config: FinetuneConfig) -> None:
    from isogloss.stages.finetune import run_finetune

    run_finetune(config)


def _evaluate(config: EvaluateConfig) -> None:
    from isogloss.stages.evaluate_adapters import run_evaluate

    run_evaluate(config)


def _compare(config: CompareConfig) -> None:
    from isogloss.stages.compare import run_compare

    run_compare(config)


def _register(config: RegisterConfig) -> None:
    from isogloss.stages.register import run_register

    run_register(config)


def _import(config: ImportConfig) -> None:
    from isogloss.stages.import_results import run_import

    run_import(config)


def _plan(config: PlanConfig) -> None:
    from isogloss.stages.plan import run_plan

    run_plan(config)


def _answer_plan(config: PlanConfig) -> Callable[[], object] | None:
    if config.like:  # a run
        return None
    from isogloss.stages.plan import answer

    planned = answer(config)

    def record_it() -> None:
        from isogloss.stages.plan_record import record

        record(planned, config)

    return record_it


COMMANDS: dict[str, click.Command] = {
    "main": stage_command("main", MainConfig, _main),
    "tune": stage_command("tune", TuneConfig, _tune),
    "finetune": stage_command("finetune", FinetuneConfig, _finetune),
    "evaluate": stage_command("evaluate", EvaluateConfig, _evaluate),
    "compare": stage_command("compare", CompareConfig, _compare),
    "register": stage_command("register", RegisterConfig, _register),
    "import": stage_command("import", ImportConfig, _import),
    "plan": stage_command("plan", PlanConfig, _plan, answer=_answer_plan),
}
