"""Which sources and targets of a crossed design answer the question best.

Shapes are suffixes: S sources, T targets.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice

import numpy as np

from isogloss.errors import ConfigError
from isogloss.languages import Language, language
from isogloss.languages.pretraining_text import pretraining_words
from isogloss.types import FloatArray, LanguageCode

BRANCHES_TRIED = 12  # the largest: all choices of sources among them are compared
MAX_SOURCES = 10
ENGLISH = "eng_Latn"


@dataclass(frozen=True)
class Proposal:
    """Sources of different branches, and the same number of relatives of each as targets.

    `relatives` has the targets by source, in the order of `sources`. `script_inflation` is the
    factor by which the standard error of the effect of kinship grows if the script that source and
    target share is held equal; infinite if kinship and script cannot be told apart.
    """

    sources: tuple[LanguageCode, ...]
    relatives: Mapping[LanguageCode, tuple[LanguageCode, ...]]
    script_inflation: float

    @property
    def targets(self) -> tuple[LanguageCode, ...]:
        """All targets, by source."""
        return tuple(code for source in self.sources for code in self.relatives[source])

    @property
    def families(self) -> tuple[str, ...]:
        """The families of the sources, sorted."""
        return tuple(sorted({language(code).family for code in self.sources}))

    @property
    def scripts(self) -> tuple[str, ...]:
        """The scripts of sources and targets, sorted."""
        return tuple(sorted({language(code).script for code in (*self.sources, *self.targets)}))


def candidate_branches(codes: Sequence[LanguageCode]) -> dict[str, tuple[Language, ...]]:
    """Languages by branch, the largest branch first; of the varieties of a language only one."""
    kept: dict[LanguageCode, Language] = {}
    for code in sorted(codes):
        row = language(code)
        head = row.variety_of or row.code
        if head not in kept or row.variety_of is None:
            kept[head] = row
    branches: dict[str, list[Language]] = defaultdict(list)
    for row in kept.values():
        branches[row.branch].append(row)
    by_size = sorted(branches.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return {branch: tuple(sorted(rows, key=lambda row: row.code)) for branch, rows in by_size}


def feasible_designs(branches: Mapping[str, Sequence[Language]]) -> Iterator[tuple[int, int]]:
    """Numbers of sources and of relatives of each that these branches have."""
    sizes = sorted((len(rows) for rows in branches.values()), reverse=True)
    for n_sources in range(4, min(len(sizes), MAX_SOURCES) + 1):
        for relatives in range(2, sizes[n_sources - 1]):
            yield n_sources, relatives


def propose(
    branches: Mapping[str, Sequence[Language]], n_sources: int, n_relatives: int
) -> Proposal:
    """The best balanced choice of that many sources, with that many relatives each.

    Branches of different families come first, since branches of one family are related too. Among
    equal choices the one counts whose standard error grows least if script is held equal, then the
    one of larger branches. The result depends on the languages alone. ConfigError if too few
    branches are large enough.
    """
    usable = [name for name, rows in branches.items() if len(rows) > n_relatives]
    if len(usable) < n_sources:
        raise ConfigError(
            f"{n_sources} sources with {n_relatives} relatives each need as many branches of at "
            f"least {n_relatives + 1} languages, but there are {len(usable)}."
        )
    chosen = {name: _balanced(branches[name], n_relatives) for name in usable[:BRANCHES_TRIED]}

    def rank(names: tuple[str, ...]) -> tuple[int, float, tuple[int, ...]]:
        families = {chosen[name][0].family for name in names}
        inflation = _script_inflation([chosen[name] for name in names])
        return -len(families), round(inflation, 2), tuple(usable.index(name) for name in names)

    best = min(combinations(chosen, n_sources), key=rank)
    rows = [chosen[name] for name in best]
    return Proposal(
        sources=tuple(source.code for source, *_ in rows),
        relatives={source.code: tuple(row.code for row in others) for source, *others in rows},
        script_inflation=_script_inflation(rows),
    )


def _balanced(rows: Sequence[Language], n_relatives: int) -> list[Language]:
    """A source and its relatives, alternately in its own script and in the others of its branch.

    The language that a public pre-training corpus has most text of is the source, and relatives
    come in that order: a model can learn from and show something in a language that it has seen.
    """
    source, *_ = ordered = sorted(rows, key=_little_text)
    by_script: dict[str, list[Language]] = defaultdict(list)
    for row in ordered[1:]:
        by_script[row.script].append(row)
    same = by_script.pop(source.script, [])
    others = list(by_script)
    # Round after round one of each script, so that no script crowds out the others.
    rounds = max(len(by_script[script]) for script in others) if others else 0
    different = [
        by_script[script][at]
        for at in range(rounds)
        for script in others
        if at < len(by_script[script])
    ]
    queues = [iter(same), iter(different)]
    relatives: list[Language] = []
    for queue in cycle(queues):
        if len(relatives) == n_relatives:
            break
        relatives += islice(queue, 1)
    return [source, *relatives]


def _little_text(row: Language) -> tuple[float, str]:
    """Key that puts the language with most text first; the corpus leaves out English alone."""
    words = math.inf if row.code == ENGLISH else pretraining_words(row.code) or 0
    return -words, row.code


def _script_inflation(rows: Sequence[Sequence[Language]]) -> float:
    """How much the standard error grows if the shared script is held equal."""
    targets = [(branch, row) for branch, (_, *others) in enumerate(rows) for row in others]
    kin_ST = np.array([[at == branch for branch, _ in targets] for at in range(len(rows))])
    script_ST = np.array(
        [[row.script == source.script for _, row in targets] for source, *_ in rows]
    )
    kin, script = _centred(kin_ST.astype(float)), _centred(script_ST.astype(float))
    lengths = float((kin**2).sum() * (script**2).sum())
    if lengths < 1e-12:
        return 1.0
    unexplained = 1 - float((kin * script).sum()) ** 2 / lengths
    return float(1 / np.sqrt(unexplained)) if unexplained > 1e-9 else float("inf")


def _centred(values_ST: FloatArray) -> FloatArray:
    """Values without the means of sources and of targets."""
    centred: FloatArray = (
        values_ST
        - values_ST.mean(axis=0)
        - values_ST.mean(axis=1, keepdims=True)
        + values_ST.mean()
    )
    return centred
