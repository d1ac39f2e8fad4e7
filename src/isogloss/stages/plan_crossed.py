"""Plans of crossed designs: what sources and relatives show, what they cost, which to choose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.analysis.design_proposal import (
    Proposal,
    candidate_branches,
    feasible_designs,
    propose,
)
from isogloss.config import Hyperparameters, PlanConfig
from isogloss.costs.operations import Lora, Work
from isogloss.costs.shape import assumed_shape
from isogloss.costs.time import H100, Machine, scoring_seconds, training_seconds
from isogloss.errors import ConfigError
from isogloss.formatting import listed
from isogloss.languages import language, source_branch, table
from isogloss.report.crossed_power import (
    CrossedOutlook,
    CrossedPlan,
    DesignCost,
    languages_table,
    sentences,
    study_fragment,
    text,
)
from isogloss.stats.crossed_power import (
    CrossedSpread,
    answer_spread,
    crossed_power,
    pilot_crossed_spread,
)
from isogloss.tasks import languages_of, open_task
from isogloss.tasks.hub_files import hub_names
from isogloss.types import FloatArray, LanguageCode

RELATIVES, ITEMS, SEEDS = 4, 900, 1
ITEMS_OF_TASKS = {"belebele": 900, "sib200": 204, "global_mmlu": 14_042, "afrixnli": 600}
PASSAGES_PER_ITEM = 488 / 900  # Belebele's
TOLERANCE = 0.1  # of minimum detectable effects that count as nearly the same


@dataclass(frozen=True)
class CrossedPilot:
    """Accuracies of a pilot's adapters, [S, T], mean over seeds and models.

    NaN for a source itself, its varieties and what was not evaluated; without sources pooled from
    several branches. `items` is the mean number of items per target, `seeds` the number of seeds of
    the source that has the fewest.
    """

    run_id: str
    accuracy: FloatArray
    sources: tuple[str, ...]
    targets: tuple[LanguageCode, ...]
    items: int
    seeds: int


class ProposedDesign(NamedTuple):
    """A crossed design and the languages that would make it."""

    outlook: CrossedOutlook
    proposal: Proposal

    @property
    def detectable(self) -> float:
        """The minimum detectable effect if the script that languages share is held equal."""
        return self.outlook.power.minimum_detectable_effect * self.proposal.script_inflation


def crossed_plan(config: PlanConfig, pilot: CrossedPilot | None = None) -> CrossedPlan:
    """What crossed designs can show, by number of sources; of a proposal, the best one's languages.

    ConfigError if the parameters contradict one another, or the budget pays for no design.
    """
    items = config.items or (
        pilot.items if pilot else ITEMS_OF_TASKS.get(config.propose or "", ITEMS)
    )
    seeds = config.seeds or (pilot.seeds if pilot else SEEDS)
    spread = _spread(config, items, pilot)
    machine = _machine(config)

    def outlook(sources: int, relatives: int) -> CrossedOutlook:
        return CrossedOutlook(
            crossed_power(
                spread, sources, relatives,
                items=items, seeds=seeds, effect=config.effect, margin=config.margin_fraction,
            ),
            design_cost(config, sources, relatives, items, seeds, machine),
        )  # fmt: skip

    proposal = None
    if config.propose:
        branches = candidate_branches(_languages(config.propose, config))
        designs = [
            ProposedDesign(outlook(*design), propose(branches, *design))
            for design in feasible_designs(branches)
            if config.sources is None or design[0] in config.sources
        ]
        affordable = _affordable(config, designs)
        outlooks = [design.outlook for design in affordable]
        best, proposal = _preferred(affordable)
    else:
        numbers = sorted(set(config.sources or ()))
        outlooks = [outlook(number, config.related or RELATIVES) for number in numbers]
        best = outlooks[-1]
    return CrossedPlan(
        items=items,
        seeds=seeds,
        spread=spread,
        margin=config.margin_fraction,
        effect=config.effect,
        outlooks=tuple(outlooks),
        best=best,
        proposal=proposal,
        pilot=pilot.run_id if pilot else None,
        pilot_sources=len(pilot.sources) if pilot else 0,
        pilot_targets=len(pilot.targets) if pilot else 0,
    )


def design_cost(
    config: PlanConfig, sources: int, relatives: int, items: int, seeds: int, machine: Machine
) -> DesignCost:
    """Adapters, evaluations on one target each (the base model's too), and hours."""
    targets, adapters = sources * relatives, sources * seeds
    evaluations = targets * (adapters + 1)
    hours = None
    if config.parameters:
        shape = assumed_shape(config.parameters)
        item = Work(config.tokens, 1, 1, keys=(config.tokens + 1) / 2)
        seconds = scoring_seconds(shape, item.times(evaluations * items), machine)
        training = item._replace(last=None).times(adapters * config.training_items)
        seconds += training_seconds(shape, training, machine, Lora(Hyperparameters().rank))
        hours = seconds / 3600
    return DesignCost(adapters, evaluations, hours)


def printed(plan: CrossedPlan) -> str:
    """What the command prints, without the place of the figure."""
    parts = [text(plan), "\n".join(sentences(plan))]
    if plan.proposal:
        fragment = study_fragment(plan.proposal, plan.seeds, plan.margin)
        parts += [languages_table(plan.proposal), f"for a study file:\n\n{fragment}"]
    return "\n\n".join(parts)


def _spread(config: PlanConfig, items: int, pilot: CrossedPilot | None) -> CrossedSpread:
    passages = config.passages or max(1, round(PASSAGES_PER_ITEM * items))
    if passages > items:
        raise ConfigError(f"`passages` must not exceed the {items} items but got {passages}.")
    answers = answer_spread(config.discordant, items / passages, config.passage_correlation)
    if pilot is None:
        return CrossedSpread(config.branch_spread, config.spread, config.seed_spread, answers)
    branches = [source_branch(source) for source in pilot.sources]
    return pilot_crossed_spread(
        pilot.accuracy,
        *_numbered(branches, [source_branch(code) for code in pilot.targets]),
        items=answers,
        seeds=config.seed_spread,
        n_items=pilot.items,
        n_seeds=pilot.seeds,
    )


def _numbered(*names: Sequence[str]) -> Iterator[npt.NDArray[np.intp]]:
    """Lists of names as arrays of numbers, equal names with equal numbers."""
    numbers = {
        name: at for at, name in enumerate(sorted({name for some in names for name in some}))
    }
    for some in names:
        yield np.array([numbers[name] for name in some])


def _languages(task: str, config: PlanConfig) -> tuple[LanguageCode, ...]:
    """The languages to propose from; ConfigError for one that the task does not have."""
    if task not in ITEMS_OF_TASKS or config.data_dir is not None:
        return languages_of(open_task(task, config.data_dir), config.languages)
    # The table knows the languages of public data, so that a plan needs no network.
    in_table = {code for code, row in table().items() if getattr(row, task, False)}
    known = tuple(sorted(in_table or hub_names(task)))
    for code in config.languages or ():
        language(code)
    if missing := [code for code in config.languages or () if code not in known]:
        raise ConfigError(f"task {task!r} has no language {missing[0]!r}; it has {listed(known)}.")
    return config.languages or known


def _machine(config: PlanConfig) -> Machine:
    if config.machine == "here" and config.parameters:
        from isogloss.stages.model_costs import machine_here  # a plan on paper needs no torch

        return machine_here("auto")
    return H100


def _affordable(config: PlanConfig, designs: Sequence[ProposedDesign]) -> list[ProposedDesign]:
    """The best design within the budget by number of sources; ConfigError if there is none."""
    if not designs:
        raise ConfigError(
            f"no crossed design can be proposed: task {config.propose!r} needs four branches with "
            f"at least three of `languages` each, not counting varieties."
        )
    within = [design for design in designs if _within(config, design.outlook.cost)]
    if not within:
        costs = [design.outlook.cost for design in designs]
        least = min(costs, key=lambda cost: cost.evaluations)
        hours = "" if least.hours is None else f" and {least.hours:.2g} hours"
        raise ConfigError(
            f"the budget pays for no crossed design; the cheapest needs {least.evaluations} "
            f"evaluations{hours}."
        )
    numbers = sorted({design.outlook.power.sources for design in within})
    return [
        _preferred([design for design in within if design.outlook.power.sources == number])
        for number in numbers
    ]


def _preferred(designs: Sequence[ProposedDesign]) -> ProposedDesign:
    """Of designs with nearly the smallest detectable effect, the one with the most families.

    Of designs with equally many families it is the one with the most scripts.

    Branches of one family are related too, so an effect of kinship is clearest between families.
    """
    least = min(design.detectable for design in designs)
    near = [design for design in designs if design.detectable <= (1 + TOLERANCE) * least]
    return min(
        near,
        key=lambda design: (
            -len(design.proposal.families),
            -len(design.proposal.scripts),
            design.detectable,
            design.outlook.cost.evaluations,
        ),
    )


def _within(config: PlanConfig, cost: DesignCost) -> bool:
    affordable = config.budget is None or cost.evaluations <= config.budget
    if config.budget_hours is None or cost.hours is None:
        return affordable
    return affordable and cost.hours <= config.budget_hours
