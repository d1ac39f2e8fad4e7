"""What would settle the question of a comparison: languages, seeds, more sources."""

import math
from collections.abc import Iterator

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed_sensitivity import MIN_RELATED_BRANCHES
from isogloss.analysis.learning import Obstacle
from isogloss.formatting import listed, points
from isogloss.languages import group, table
from isogloss.predictions.positions import other_ways_to_ask
from isogloss.report.crossed import FEWEST_SEEDS, crossed_steps
from isogloss.stats.permutation import attained_level
from isogloss.stats.power import languages_for_equivalence
from isogloss.types import Group, Verdict

ALPHA = 0.05
WHAT_TO_LEARN = {
    Obstacle.AT_CHANCE: "accuracy above chance, from more training, an easier task or other models",
    Obstacle.TOO_FEW_ITEMS: "more items per language (here {items}), or more languages, to tell "
    "accuracy from chance",
    Obstacle.EVERYONE_RIGHT: "a more difficult task",
    Obstacle.NO_GAIN: "a mean gain, from more training, items or seeds, or other models",
    Obstacle.LARGE_MARGIN: "a smaller margin, stated before a new study, or a larger gain",
    Obstacle.FEW_SOURCES: f"a gain from sources of at least {MIN_RELATED_BRANCHES} branches that "
    "have relatives among the targets, from more training, items or seeds",
}


def next_steps(comparison: Comparison) -> str:
    """One sentence on what would settle the question, or turn the answer into a claim."""
    if obstacle := claim_verdicts(comparison).obstacle:
        items = min(row.n for row in comparison.languages)
        learn = WHAT_TO_LEARN[obstacle].format(items=items)
        if obstacle == Obstacle.AT_CHANCE and comparison.one_position:
            learn = (
                f"answers that depend on the question, from "
                f"{other_ways_to_ask(comparison.format)}; then {learn}"
            )
        return f"What would settle it: {learn}."
    crossed = comparison.decisive
    steps = crossed_steps(comparison, crossed) if crossed else list(_steps(comparison))
    alternative = "" if crossed else _alternative(comparison)
    if not steps and alternative:
        steps, alternative = [alternative], ""
    if not steps:
        return "Settled within this design; other models and tasks would show how far it extends."
    verdict = crossed.verdict if crossed else comparison.contrast.verdict
    settled = verdict != Verdict.INCONCLUSIVE
    purpose = "make it a claim" if settled else "settle it"
    instead = f" (or, with a single source, {alternative})" if alternative else ""
    return f"What would {purpose}: {listed(steps)}{instead}."


def fewest_seeds(comparison: Comparison) -> int:
    """The number of seeds of the model that has the fewest."""
    return min(len(model.seeds) for model in comparison.models)


def fewest_controls(n_related: int) -> int:
    """The smallest number of controls with which a two-sided permutation test can reach 5%."""
    n_control = 2
    while attained_level(n_related, n_control, ALPHA) == 0:
        n_control += 1
    return n_control


def _steps(comparison: Comparison) -> Iterator[str]:
    """What makes of a contrast of one source a verdict on kinship; nothing without tuning."""
    if not comparison.condition.tuned:
        return
    yield (
        "sources of at least four branches, each with relatives among the targets (the crossed "
        "design)"
    )
    if fewest_seeds(comparison) < FEWEST_SEEDS:
        per_model = " per model" if len(comparison.models) > 1 else ""
        yield f"at least {FEWEST_SEEDS} seeds{per_model}"


def _alternative(comparison: Comparison) -> str:
    """The languages that would settle an open contrast of one source; empty where it is settled."""
    contrast = comparison.contrast
    if contrast.verdict != Verdict.INCONCLUSIVE:
        return ""
    if not math.isfinite(contrast.permutation.interval_95.low):
        return (
            f"at least {fewest_controls(contrast.n_related)} control languages with these "
            f"{contrast.n_related} related ones, since fewer never reach p = {ALPHA}"
        )
    return _languages(comparison) if contrast.spread > 0 else ""


def _languages(comparison: Comparison) -> str:
    """Numbers of languages that have 80% power to show a true contrast of zero as equivalent."""
    spread = comparison.contrast.spread
    enough = languages_for_equivalence(spread, comparison.margin)
    available = sum(
        group(code, comparison.source, comparison.branch) == Group.RELATED for code in table()
    )
    limit = f"; but FLORES-200 has only {available} related ones" if available < enough else ""
    return (
        f"about {enough} related and {enough} control languages, for 80% power to show equal gains "
        f"within ±{points(comparison.margin, signed=False)} points at the observed spread of "
        f"{points(spread, signed=False)}{limit}"
    )
