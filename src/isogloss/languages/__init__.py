"""Languages by FLORES-200 code: their place among the world's languages, and groups of kin.

table.csv holds the 122 codes of Belebele and the 205 of SIB-200. Glottocodes and paths are those of
Glottolog 5.3 (Hammarström, Forkel, Haspelmath and Bank, 2026; CC BY 4.0); branches are the names in
common use for a node of its tree. What was decided by hand stands in docs/reference/languages.md.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from isogloss.errors import ConfigError
from isogloss.types import Group

# Common names of branches that Glottolog calls otherwise.
NODES = {
    "Armenian": "Armenic",
    "Atlantic": "North-Central Atlantic",
    "Baltic": "Eastern Baltic",
    "Bantu": "Narrow Bantu",
    "Indic": "Indo-Aryan",
    "Kwa": "Kwa Volta-Congo",
    "Munda": "Mundaic",
    "Tai": "Daic",
}


UNSPACED = ("Han", "Japanese", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")


@dataclass(frozen=True)
class Language:
    """One row of the table; `variety_of` is the code whose dialect or script variant this is.

    `path` names the nodes of Glottolog's tree above the language, from the family down; it is empty
    for an isolate. `belebele` and `sib200` say whether that set has the language.
    """

    code: str
    name: str
    family: str
    branch: str
    script: str
    variety_of: str | None
    glottocode: str
    path: tuple[str, ...]
    belebele: bool
    sib200: bool

    @property
    def spaced(self) -> bool:
        """Whether its script puts spaces between words."""
        return self.script not in UNSPACED


@cache
def table() -> dict[str, Language]:
    """Every known language by FLORES-200 code."""
    text = (files(__package__) / "table.csv").read_text(encoding="utf-8")
    return {row["code"]: _language(row) for row in csv.DictReader(text.splitlines())}


def language(code: str) -> Language:
    """The language with this FLORES-200 code; ConfigError if the table does not have it."""
    try:
        return table()[code]
    except KeyError:
        # The head of a group of varieties is named last, so that its code stands for all of them.
        rows = sorted(table().values(), key=lambda row: row.variety_of is None)
        spelled = {alias: row.code for row in rows for alias in (row.code[:3], row.name, row.code)}
        known = _close(code, spelled) or "a FLORES-200 code such as arb_Arab"
        raise ConfigError(f"language {code!r} is not known; expected {known}.") from None


@cache
def members(branch: str) -> frozenset[str]:
    """Codes of the languages in a branch, named as in the table or as any node of Glottolog's tree.

    "Semitic", "Afro-Asiatic" and "West Semitic" are all branches. ConfigError if none is called so.
    """
    node = NODES.get(branch, branch)
    found = frozenset(
        row.code
        for row in table().values()
        if node in row.path or branch in (row.branch, row.family)
    )
    if not found:
        names = {name for row in table().values() for name in (row.branch, row.family, *row.path)}
        known = (
            _close(branch, {name: name for name in names})
            or "a family or branch such as Semitic, Bantu or Turkic"
        )
        raise ConfigError(f"branch {branch!r} is not known; expected {known}.")
    return found


def group(target: str, source: str, branch: str | None = None) -> Group:
    """Place `target` relative to `source`: source, variety, related or control.

    `branch` names what counts as kin, as in `members`; by default it is the source's own branch,
    and it need not contain the source. A dialect or script variant of the source is a `variety` and
    enters no contrast. ConfigError for a code or a branch that is not known.
    """
    here, there = language(target), language(source)
    kin = members(branch or there.branch)
    if target == source:
        return Group.SOURCE
    if (here.variety_of or target) == (there.variety_of or source):
        return Group.VARIETY
    return Group.RELATED if target in kin else Group.CONTROL


def distance(left: str, right: str) -> float:
    """Genealogical distance in [0, 1]: 1 - 2 * shared / (nodes of `left` + nodes of `right`).

    A language's nodes are its path with itself as the last; shared are those that both have from
    the family down. It is 0 for one language in two scripts or dialects (one glottocode) and 1
    between families. One minus the similarity of Wu and Palmer ("Verb semantics and lexical
    selection", ACL 1994), whose depth counts from a family's root.

    Depth is uneven: Glottolog has two dozen nodes above some languages and none above others, so
    use the order of distances from one language, not their size.
    """
    # A node has one place in the tree, so what two languages share is their common ancestors.
    here, there = ({*row.path, row.glottocode} for row in (language(left), language(right)))
    return 1 - 2 * len(here & there) / (len(here) + len(there))


def _language(row: dict[str, str]) -> Language:
    return Language(
        code=row["code"],
        name=row["name"],
        family=row["family"],
        branch=row["branch"],
        script=row["script"],
        variety_of=row["variety_of"] or None,
        glottocode=row["glottocode"],
        path=tuple(row["path"].split(" > ")) if row["path"] else (),
        belebele=row["belebele"] == "1",
        sib200=row["sib200"] == "1",
    )


def _close(given: str, names: Mapping[str, str]) -> str:
    """What the names nearest to the one given stand for, whatever their case; perhaps nothing."""
    folded = {name.casefold(): meant for name, meant in names.items()}
    near = get_close_matches(given.casefold(), sorted(folded), cutoff=0.8)
    return " or ".join(dict.fromkeys(folded[name] for name in near))
