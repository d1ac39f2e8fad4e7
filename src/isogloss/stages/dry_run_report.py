"""A dry run as a command: the costs of a study in tables, without running it."""

from isogloss.config import MainConfig
from isogloss.costs.memory import COMPILED_FROM
from isogloss.costs.time import ASSUMED_SHARE, COMPILED_SHARE, H100
from isogloss.formatting import aligned, duration, in_hours, listed, size
from isogloss.stages.configured_study import configured_study
from isogloss.stages.dry_run import CHARACTERS_PER_TOKEN, DryRun, dry_run, total
from isogloss.stages.study_contrast import check_contrast
from isogloss.tracking.project_run import name_project_run


def run_dry(config: MainConfig) -> None:
    """The entry point `main` with `dry_run`: print what its study would compute and cost."""
    study = configured_study(config)
    name_project_run(f"dry run of {study.study}")
    dry = dry_run(study, config.experiment)
    if dry.languages:
        check_contrast(study, dry.languages)
    print_dry_run(dry)


def print_dry_run(dry: DryRun) -> None:
    """Print what each model needs, one line per cell, the totals, and the commands."""
    costs = dry.cells
    rows = [("", "cell", "items", "tokens", "done", "memory", "time here", "H100 hours", "disk")]
    for number, cost in enumerate(costs, 1):
        rows.append(
            (
                str(number),
                cost.cell.label,
                f"{cost.items:,}",
                f"{cost.tokens:,}",
                cost.done,
                _size(cost.memory),
                _time(cost.hours_here),
                in_hours(cost.hours_h100),
                _size(cost.disk),
            )
        )
    missing = [cost for cost in costs if cost.done != "yes"]
    print(f"{dry.needs}\n")
    print(
        f"Numbers of GPUs are the fewest that hold the model, over which device_map auto spreads "
        f"the layers; peaks of scoring and training are those on so many {H100.name}s.\n"
        f"{H100.name} hours assume {ASSUMED_SHARE:.0%} of "
        f"{H100.operations_per_second / 1e12:.0f} TFLOP/s, {COMPILED_SHARE:.0%} in scoring by "
        f"models of {COMPILED_FROM / 1e9:.0f}B parameters or more on a single GPU, whose layers "
        f"are compiled, and reads of {H100.bytes_per_second / 1e12:.1f} TB/s; several GPUs take "
        f"turns and are no faster.\n"
    )
    print(aligned(rows))
    too_large = [cost for cost in missing if cost.memory and cost.hours_here is None]
    beyond = f" (without {len(too_large)} cells that do not fit in memory)" if too_large else ""
    print(
        f"\n{len(costs)} cells, {len(costs) - len(missing)} done; to do: "
        f"{sum(cost.tokens for cost in missing):,} tokens, "
        f"{_time(total(cost.hours_here for cost in missing))} here{beyond}, "
        f"{in_hours(total(cost.hours_h100 for cost in missing))} {H100.name} hours."
    )
    if dry.assumed_tokens:
        print(
            f"Tokens of {listed(dry.assumed_tokens)} are assumed, {CHARACTERS_PER_TOKEN} "
            f"characters each: the tokenizer is not on this machine yet."
        )
    print("\ncommands of single cells (a tuned cell takes the id of its finetune run)")
    for number, cost in enumerate(costs, 1):
        print(f"{number}: {cost.command}")


def _size(n_bytes: float | None) -> str:
    return "unknown" if n_bytes is None else size(round(n_bytes))


def _time(hours: float | None) -> str:
    return "unknown" if hours is None else duration(3600 * hours)
