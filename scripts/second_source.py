"""What a second source buys against more controls, in simulated studies of equal cost.

    OMP_NUM_THREADS=1 python -m scripts.second_source [--studies 400] [--designs 1 2 ...]

Prints the table of docs/how-to/plan-a-study.md. All designs cost as many hours as 6 sources with 4
relatives each: training one adapter takes as long as evaluating it on 9.6 targets (960 training
items at twice the operations of 200 evaluated ones).
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from isogloss.stats.crossed import crossed_effect
from isogloss.types import FloatArray
from scripts.calibrate_crossed import double_difference_p, one_source_p
from scripts.crossed_simulation import (
    CrossedPopulation,
    CrossedStudy,
    crossed_kinship_for,
    simulate_crossed,
)

TRAINING = 960 * 4 / (200 * 2)  # evaluations on one target
EFFECTS = (0.0, 0.03, 0.06)


def crossed_p(population: CrossedPopulation, study: CrossedStudy) -> float:
    """p of the test of matchings."""
    branches = [str(branch) for branch in population.source_branch]
    return float(crossed_effect(study.gain, population.kin, branches).p)


class Candidate(NamedTuple):
    """A design and the test that its studies end in."""

    name: str
    population: CrossedPopulation
    p: Callable[[CrossedPopulation, CrossedStudy], float]

    @property
    def cost(self) -> float:
        """Cost in evaluations of one adapter or the base model on one target."""
        sources, targets = self.population.kin.shape
        return float(sources * TRAINING + targets * (sources + 1))


CANDIDATES = (
    Candidate("1 source, 12 controls", CrossedPopulation((4,) * 4, sources=1), one_source_p),
    Candidate("1 source, 104 controls", CrossedPopulation((4,) * 27, sources=1), one_source_p),
    Candidate(
        "2 sources, 60 controls, double difference",
        CrossedPopulation((4,) * 17, sources=2),
        double_difference_p,
    ),
    Candidate("4 sources, 9 relatives each", CrossedPopulation((9,) * 4), crossed_p),
    Candidate("5 sources, 6 relatives each", CrossedPopulation((6,) * 5), crossed_p),
    Candidate("6 sources, 4 relatives each", CrossedPopulation((4,) * 6), crossed_p),
)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400, help="per design and effect")
    numbers = range(1, len(CANDIDATES) + 1)
    parser.add_argument("--designs", type=int, nargs="*", choices=numbers, default=list(numbers))
    arguments = parser.parse_args()
    print("| design | cost | false positives | power at 3 | at 6 | at equal 5%: at 3 | at 6 |")
    print(f"|---|{'---:|' * 6}")
    for number in arguments.designs:
        candidate = CANDIDATES[number - 1]
        null, *others = (p_values(candidate, effect, arguments.studies) for effect in EFFECTS)
        level = np.quantile(null, 0.05)  # with which 5% of null studies would be significant
        rates = [float((p <= 0.05).mean()) for p in (null, *others)]
        rates += [float((p <= min(level, 0.05)).mean()) for p in others]
        cells = " | ".join(f"{100 * rate:.0f}" for rate in rates)
        print(f"| {candidate.name} | {candidate.cost:.0f} | {cells} |", flush=True)


def p_values(candidate: Candidate, effect: float, studies: int) -> FloatArray:
    """p of some studies in which relatives gain `effect` more, in accuracy."""
    population = candidate.population
    if effect:
        kinship = crossed_kinship_for(CrossedPopulation(), effect).kinship
        population = replace(population, kinship=kinship)
    rng = np.random.default_rng((7, round(1000 * effect)))
    p = [candidate.p(population, simulate_crossed(population, rng)) for _ in range(studies)]
    return np.array(p)


if __name__ == "__main__":
    main()
