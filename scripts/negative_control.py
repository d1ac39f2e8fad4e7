"""How often crossed studies find kinship in real answers that no tuning on a language produced.

    OMP_NUM_THREADS=1 python -m scripts.negative_control --data sib200_two_systems.csv.gz
        [--studies 200]

The data are the answers of two systems, an older and a newer one, to the same items in many
languages: columns `condition` (base, tuned), `language`, `item_id` and `correct`. Neither was tuned
on one language, so each verdict of kinship is false.

Each study draws 4 to 8 branches, and in each of them a language that is called a source and 3 to 5
others as its relatives. A pseudo-adapter of a source answers a random 10 to 100% of the items like
the newer system, in every language, and the others like the older one. So gains keep what real
gains of targets have in common within branches and resource levels; adapters differ in strength,
which acts more on the branches that gain more; and an item that helps one branch helps all of it.
What the adapters do not have is anything that depends on the source's own language.

Shapes are suffixes: S sources, T targets, L languages, I items.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from isogloss.analysis.design_proposal import candidate_branches
from isogloss.stats.crossed import crossed_effect
from isogloss.stats.permutation import permutation_test
from isogloss.types import FloatArray, Verdict

MARGIN = 0.03
SOURCES, RELATIVES = (4, 8), (3, 5)
LEAST_SHARE = 0.1  # of the items that a pseudo-adapter answers like the newer system


class Answers(NamedTuple):
    """Newer minus older correctness, [L, I], in -1, 0, 1, and the codes of the languages."""

    change: FloatArray
    codes: tuple[str, ...]


class Finding(NamedTuple):
    """What one random study would report; all false if it is a finding of kinship."""

    kinship: bool
    significant: bool
    equivalent: bool
    one_source_significant: bool


def main() -> None:
    """Draw studies, count verdicts, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the two systems' answers")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    answers = read_answers(arguments.data)
    rng = np.random.default_rng(arguments.seed)
    findings = np.array([random_study(answers, rng) for _ in range(arguments.studies)], float)
    print(f"{arguments.studies} random studies of {len(answers.codes)} languages, in percent")
    labels = (
        "crossed: verdict of kinship (all false)",
        "crossed: p <= 0.05",
        "crossed: equivalent",
        "first source alone: p <= 0.05 (described, never a verdict)",
    )
    for label, share in zip(labels, findings.mean(axis=0), strict=True):
        error = np.sqrt(share * (1 - share) / len(findings))
        print(f"{100 * share:5.1f} ±{100 * error:4.1f}  {label}")


def read_answers(path: Path) -> Answers:
    """The change in correctness of each language and item; languages without all items are left."""
    rows = pd.read_csv(path)
    correct = rows.pivot_table(
        index="language", columns=["condition", "item_id"], values="correct"
    ).dropna()
    change = correct["tuned"] - correct["base"]
    return Answers(change.to_numpy(dtype=np.float64), tuple(map(str, change.index)))


def random_study(answers: Answers, rng: np.random.Generator) -> Finding:
    """Draw languages and pseudo-adapters, and judge their gains."""
    branches = candidate_branches(answers.codes)
    n_relatives = int(rng.integers(RELATIVES[0], RELATIVES[1] + 1))
    usable = [rows for rows in branches.values() if len(rows) > n_relatives]
    n_sources = min(int(rng.integers(SOURCES[0], SOURCES[1] + 1)), len(usable))
    chosen = [usable[at] for at in rng.choice(len(usable), n_sources, replace=False)]
    # The first of each draw would be the source; its own answers are not used.
    drawn = [rng.choice(len(rows), n_relatives + 1, replace=False)[1:] for rows in chosen]
    targets = [rows[at].code for rows, places in zip(chosen, drawn, strict=True) for at in places]
    branch_T = np.repeat(np.arange(n_sources), n_relatives)
    change_TI = answers.change[[answers.codes.index(code) for code in targets]]
    gain_ST = pseudo_gains(change_TI, n_sources, rng)
    kin_ST = np.arange(n_sources)[:, None] == branch_T
    effect = crossed_effect(gain_ST, kin_ST, [str(at) for at in range(n_sources)], MARGIN)
    return Finding(
        kinship=effect.verdict in (Verdict.RELATED_GAIN_MORE, Verdict.RELATED_GAIN_LESS),
        significant=effect.p <= 0.05,
        equivalent=effect.verdict == Verdict.EQUIVALENT,
        one_source_significant=permutation_test(gain_ST[0], kin_ST[0]).p <= 0.05,
    )


def pseudo_gains(change_TI: FloatArray, n_sources: int, rng: np.random.Generator) -> FloatArray:
    """Gains [S, T] of adapters that answer a random share of items like the newer system."""
    share_S = rng.uniform(LEAST_SHARE, 1, n_sources)
    taken_SI = rng.random((n_sources, change_TI.shape[1])) < share_S[:, None]
    gain_ST: FloatArray = taken_SI.astype(np.float64) @ change_TI.T / change_TI.shape[1]
    return gain_ST


if __name__ == "__main__":
    main()
