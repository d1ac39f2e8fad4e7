"""The call of `plan` that works out what would settle the question of a comparison."""

from collections.abc import Iterable

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.learning import Obstacle
from isogloss.report.crossed import FEWEST_SEEDS, crossed_steps
from isogloss.report.next_steps import fewest_seeds

PLAN = "mlflow run . -e plan --env-manager local"
SOURCES = (4, 6, 8)  # of a crossed design to try
MORE_SOURCES = (0, 2, 4)  # beyond those that a crossed study has
PUBLIC_TASKS = ("belebele", "sib200")  # whose languages `plan` knows without their data
BUDGET = 400  # evaluations of one adapter on one target
# What a plan with the gain that was measured does not remedy.
NO_PLAN = (
    Obstacle.AT_CHANCE,
    Obstacle.TOO_FEW_ITEMS,
    Obstacle.EVERYONE_RIGHT,
    Obstacle.NO_GAIN,
    Obstacle.LARGE_MARGIN,
)


def plan_command(comparison: Comparison, run_id: str = "") -> str:
    """A command line to paste, with what this comparison measured; empty where nothing is open.

    Kinship needs several sources, so a plan is of a crossed design: with `like` where this is one,
    in the compare run `run_id`, else from the mean gain here. Without tuning it is of languages.
    """
    if claim_verdicts(comparison).obstacle in NO_PLAN:
        return ""
    values: dict[str, str] = {}
    if crossed := comparison.decisive:
        if not crossed_steps(comparison, crossed):
            return ""
        values["sources"] = _numbers(crossed.overall.n_sources + more for more in MORE_SOURCES)
        values |= _like(comparison, run_id)
        values["seeds"] = str(max(FEWEST_SEEDS, crossed.fewest_seeds))
    elif comparison.condition.tuned:
        if comparison.task in PUBLIC_TASKS:
            values |= {"propose": comparison.task, "budget": str(BUDGET)}
        else:
            values["sources"] = _numbers(SOURCES)
        values |= _measured(comparison)
        values["seeds"] = str(max(FEWEST_SEEDS, fewest_seeds(comparison)))
    else:
        values |= _like(comparison, run_id)
    values["margin"] = f"{comparison.margin:.3g}"
    return " ".join([PLAN, *(f"-P {name}={value}" for name, value in values.items())])


def _like(comparison: Comparison, run_id: str) -> dict[str, str]:
    return {"like": run_id} if run_id else _measured(comparison)


def _measured(comparison: Comparison) -> dict[str, str]:
    """Items per language and the mean gain."""
    items = min(row.n for row in comparison.languages)
    return {"items": str(items), "gain": f"{comparison.overall.mean.gain:.3g}"}


def _numbers(values: Iterable[int]) -> str:
    return ",".join(map(str, values))
