"""The plan step: what a design can show before it is paid for, as a run.

The answer is printed before MLflow and what draws are imported, which takes seconds.
"""

from isogloss.config import PlanConfig
from isogloss.errors import ConfigError
from isogloss.report.crossed_power import CrossedPlan
from isogloss.report.power import Pilot, Plan, sentences, text
from isogloss.stages.plan_crossed import crossed_plan, printed
from isogloss.stats import power as statistics
from isogloss.stats.power import Spread

RELATED, ITEMS, SEEDS = 4, 900, 1
PASSAGES_PER_ITEM = 488 / 900  # Belebele's


def run_plan(config: PlanConfig) -> str:
    """The entry point `plan`: print what a design can show, log it as a run, return its id."""
    planned = answer(config)
    from isogloss.stages.plan_record import record

    return record(planned, config)


def answer(config: PlanConfig) -> Plan | CrossedPlan:
    """Print what a design can show; MLflow is imported for a pilot alone."""
    planned: Plan | CrossedPlan
    if config.sources or config.propose:
        planned = _crossed(config)
        said = printed(planned)
    else:
        planned = _of_one_source(config)
        said = "\n\n".join([text(planned), "\n".join(sentences(planned))])
    print(f"\n{said}\n", flush=True)
    return planned


def plan(config: PlanConfig, pilot: Pilot | None = None) -> Plan:
    """What a design can show, for each number of control languages.

    A pilot provides the spread, and every sample size that the configuration leaves open.
    ConfigError if the parameters contradict one another.
    """
    related = config.related or (pilot.related if pilot else RELATED)
    items = config.items or (pilot.items if pilot else ITEMS)
    seeds = config.seeds or (pilot.seeds if pilot else SEEDS)
    if pilot:
        parts = statistics.pilot_spread(
            pilot.spread, pilot.item_error, pilot.items, pilot.seeds, config.seed_spread
        )
    else:
        parts = _assumed_spread(config, items)
    spread = parts.measured(items, seeds)
    return Plan(
        related=related,
        items=items,
        seeds=seeds,
        parts=parts,
        spread=spread,
        margin=config.margin_fraction,
        effect=config.effect,
        outlooks=tuple(
            statistics.design_power(
                spread, related, control, effect=config.effect, margin=config.margin_fraction
            )
            for control in sorted(set(config.control))
        ),
        pilot=pilot,
    )


def _of_one_source(config: PlanConfig) -> Plan:
    if not config.like:
        return plan(config)
    from isogloss.stages.plan_pilots import read_pilot

    return plan(config, read_pilot(config.like))


def _crossed(config: PlanConfig) -> CrossedPlan:
    if not config.like:
        return crossed_plan(config)
    from isogloss.stages.plan_pilots import read_crossed_pilot

    return crossed_plan(config, read_crossed_pilot(config.like))


def _assumed_spread(config: PlanConfig, items: int) -> Spread:
    passages = config.passages or max(1, round(PASSAGES_PER_ITEM * items))
    if passages > items:
        raise ConfigError(f"`passages` must not exceed the {items} items but got {passages}.")
    return Spread(
        languages=config.spread,
        seeds=config.seed_spread,
        items=statistics.item_spread(
            config.gain, config.discordant, items / passages, config.passage_correlation
        ),
    )
