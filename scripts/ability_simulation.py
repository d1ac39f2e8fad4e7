"""False findings on scales of gain where only baselines differ: accuracy, log-odds, ability.

    python -m scripts.ability_simulation --studies 200

Every language gains equally in ability, and relatives have weaker baselines by one logit. Items are
three-parameter logistic, which the item response model is not: it takes items to discriminate
equally. Shapes are suffixes: L languages, I items; answers before come first, then those after.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.item_response import fit_abilities
from isogloss.stats.permutation import ALPHA
from isogloss.stats.slopes import scatter, slope_test
from isogloss.types import FloatArray

RELATED, CONTROL, GUESSING = 4, 12, 0.25
GAIN = 1.0  # logits
SPREAD_OF_GAINS, SPREAD_OF_BASELINES, SPREAD_OF_DISCRIMINATION = 0.2, 0.4, 0.3
PERMUTATIONS = 2000  # of slopes


@dataclass(frozen=True)
class Level:
    """Mean ability of controls, and of relatives, before tuning, in logits."""

    name: str
    control: float
    related: float


LEVELS = (Level("floor", -1.0, -2.0), Level("middle", 0.5, -0.5), Level("ceiling", 2.5, 1.5))


@dataclass(frozen=True)
class Answers:
    """Correct answers of all languages before and after tuning, [L, I] each."""

    before: FloatArray
    after: FloatArray


def simulated_answers(level: Level, items: int, rng: np.random.Generator) -> Answers:
    """Answers of one model to parallel items, before and after tuning."""
    n = RELATED + CONTROL
    discrimination_I = np.exp(rng.normal(0, SPREAD_OF_DISCRIMINATION, items))
    difficulty_I = rng.normal(0, 1, items)
    centre_L = np.repeat([level.related, level.control], [RELATED, CONTROL])
    before_L = centre_L + rng.normal(0, SPREAD_OF_BASELINES, n)
    after_L = before_L + GAIN + rng.normal(0, SPREAD_OF_GAINS, n)

    def answered(ability_L: FloatArray) -> FloatArray:
        known = special.expit(discrimination_I * (ability_L[:, None] - difficulty_I))
        right = rng.random(known.shape) < GUESSING + (1 - GUESSING) * known
        return np.asarray(right, dtype=np.float64)

    return Answers(answered(before_L), answered(after_L))


def corrected_log_odds(correct_LI: FloatArray) -> FloatArray:
    """Log-odds of accuracy beyond guessing, half an item added to right and wrong, [L]."""
    items = correct_LI.shape[1]
    total = (1 - GUESSING) * items + 1
    share_L = ((correct_LI.mean(axis=1) - GUESSING) * items + 0.5) / total
    log_odds: FloatArray = special.logit(np.clip(share_L, 0.5 / total, 1 - 0.5 / total))
    return log_odds


def kinship_p(answers: Answers) -> Iterator[tuple[str, float]]:
    """The p of the relatedness contrast on each scale."""
    related_L = np.arange(RELATED + CONTROL) < RELATED
    ability_L = fit_abilities(np.vstack([answers.before, answers.after]), GUESSING).ability
    scales = {
        "accuracy": answers.after.mean(axis=1) - answers.before.mean(axis=1),
        "log-odds": corrected_log_odds(answers.after) - corrected_log_odds(answers.before),
        "ability": ability_L[RELATED + CONTROL :] - ability_L[: RELATED + CONTROL],
    }
    for scale, gain_L in scales.items():
        yield scale, relatedness_contrast(gain_L, related_L, None).permutation.p


def slope_p(answers: Answers) -> Iterator[tuple[str, float]]:
    """The p of the cross-fitted slope of gain on baseline; each item is a passage."""
    n, items = answers.before.shape
    both = np.vstack([answers.before, answers.after])
    fit = fit_abilities(both, GUESSING)
    added = fit.influence - fit.influence.mean(axis=1, keepdims=True)
    weight = np.full((items, n), 1 / items)
    for scale, shares in {
        "accuracy": both / items,
        "ability": fit.ability[:, None] / items + added,
    }.items():
        before, gain = shares[:n].T, (shares[n:] - shares[:n]).T
        test = slope_test(
            yx=scatter(gain, before, weight),
            xx=scatter(before, before, weight),
            yy=scatter(gain, gain, weight),
            draws=PERMUTATIONS,
        )
        yield scale, test.p


def main() -> None:
    """Print the share of studies with p at most 0.05, in percent, by level, items and scale."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--items", type=int, nargs="+", default=[100, 300])
    arguments = parser.parse_args()
    for items in arguments.items:
        for level in LEVELS:
            rng = np.random.default_rng(items)
            found: dict[str, list[bool]] = {}
            for _ in range(arguments.studies):
                answers = simulated_answers(level, items, rng)
                for claim, tests in (("C1", kinship_p(answers)), ("C2", slope_p(answers))):
                    for scale, p in tests:
                        found.setdefault(f"{claim} {scale}", []).append(p <= ALPHA)
            shares = ", ".join(f"{name} {100 * np.mean(own):.1f}" for name, own in found.items())
            print(f"{level.name}, {items} items: {shares}", flush=True)


if __name__ == "__main__":
    main()
