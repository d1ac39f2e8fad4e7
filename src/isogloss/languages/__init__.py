"""Languages by FLORES-200 code: classification, relatedness, genealogical and geographic distance.

A source is one language or several pooled ones, whose codes are joined by `+`.

table.csv holds the 122 codes of Belebele and the 205 of SIB-200. Glottocodes, paths and coordinates
are from Glottolog 5.3 (Hammarström, Forkel, Haspelmath and Bank, 2026; CC BY 4.0); branches are the
names in common use for a node of its tree. docs/reference/languages.md lists the decisions made by
hand.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from isogloss.errors import ConfigError
from isogloss.formatting import closest, shortened
from isogloss.types import Group

# Common names of branches, and the name of the same node in Glottolog.
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

EARTH_RADIUS = 6_371.0  # mean, in km

JOIN = "+"  # between the codes of a pooled source

UNSPACED = ("Han", "Japanese", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")


@dataclass(frozen=True)
class Language:
    """One row of the table; `variety_of` is the code whose dialect or script variant this is.

    `path` names the nodes of Glottolog's tree above the language, from the family down; it is empty
    for an isolate. `latitude` and `longitude`, in degrees, are the point that stands for the
    language in Glottolog. `belebele` and `sib200` state whether the set has the language.
    """

    code: str
    name: str
    family: str
    branch: str
    script: str
    variety_of: str | None
    glottocode: str
    path: tuple[str, ...]
    latitude: float
    longitude: float
    belebele: bool
    sib200: bool

    @property
    def spaced(self) -> bool:
        """Whether the script separates words by spaces."""
        return self.script not in UNSPACED


@cache
def table() -> dict[str, Language]:
    """Every known language by FLORES-200 code."""
    text = (files(__package__) / "table.csv").read_text(encoding="utf-8")
    return {row["code"]: _language(row) for row in csv.DictReader(text.splitlines())}


def language(code: str) -> Language:
    """The language with this FLORES-200 code; ConfigError if it is not in the table."""
    try:
        return table()[code]
    except KeyError:
        # The head of a group of varieties comes last, so that an alias of several means the head.
        rows = sorted(table().values(), key=lambda row: row.variety_of is None)
        codes = {alias: row.code for row in rows for alias in (row.code[:3], row.name, row.code)}
        shown = shortened(code)  # a request to a server may name any text
        expected = _closest(shown, codes | _named(shown) | _other_codes())
        expected = expected or "a FLORES-200 code such as arb_Arab"
        raise ConfigError(f"unknown language {shown!r}; expected {expected}.") from None


def _named(word: str) -> dict[str, str]:
    """A word of names of languages, such as Kurdish, and their codes; varieties do not count."""
    rows = [row for row in table().values() if row.variety_of is None]
    codes = [row.code for row in rows if word.casefold() in row.name.casefold().split()]
    return {word: " or ".join(codes)} if codes else {}


def _other_codes() -> dict[str, str]:
    """Codes of ISO 639 and regions, such as `ar`, and the one language that each of them means."""
    from isogloss.languages.codes import other_codes

    return {code: known[0] for code, known in other_codes().items() if len(known) == 1}


@cache
def members(branch: str) -> frozenset[str]:
    """Codes of the languages in a branch, named as in the table or as a node of Glottolog's tree.

    "Semitic", "Afro-Asiatic" and "West Semitic" are all branches. ConfigError for an unknown one.
    """
    node = NODES.get(branch, branch)
    codes = frozenset(
        row.code
        for row in table().values()
        if node in row.path or branch in (row.branch, row.family)
    )
    if not codes:
        names = {name for row in table().values() for name in (row.branch, row.family, *row.path)}
        expected = (
            _closest(branch, {name: name for name in names})
            or "a family or branch such as Semitic, Bantu or Turkic"
        )
        raise ConfigError(f"unknown branch {branch!r}; expected {expected}.")
    return codes


def pooled_source(source: str) -> str:
    """A source in its canonical order: a language before its varieties, then by code.

    The order in which a user names pooled languages means nothing. Unknown codes are kept.
    """
    codes = {part.strip() for part in source.split(JOIN)}

    def key(code: str) -> tuple[bool, str]:
        return code not in table() or table()[code].variety_of is not None, code

    return JOIN.join(sorted(codes, key=key))


def source_languages(source: str) -> tuple[Language, ...]:
    """The languages of a source, one or several pooled ones; ConfigError for an unknown one."""
    return tuple(language(code) for code in source.split(JOIN))


def source_name(source: str) -> str:
    """The name of a source: `Hebrew`, `Hebrew + Maltese`, `Hebrew + 5 pooled languages`."""
    names = [row.name for row in source_languages(source)]
    if len(names) > 2:
        return f"{names[0]} + {len(names) - 1} pooled languages"
    return " + ".join(names)


def source_branch(source: str) -> str:
    """The branch of a source; the branches of pooled languages, joined by `+`."""
    return " + ".join(dict.fromkeys(row.branch for row in source_languages(source)))


def is_mixed(source: str) -> bool:
    """Whether a source is pooled from languages of several branches, and so has no branch."""
    return len({row.branch for row in source_languages(source)}) > 1


def group(target: str, source: str, branch: str | None = None) -> Group:
    """The group of `target` relative to `source`: source, variety, related or control.

    `source` may be pooled: each of its languages is `source`, a variety of any of them is a
    `variety`, and a relative of any of them is `related`. `branch` is the branch whose languages
    count as related, as in `members`; by default it is the source's own branch, and it need not
    contain the source. A dialect or script variant of the source is a `variety` and enters no
    contrast. ConfigError for an unknown code or branch.
    """
    target_row, pool = language(target), source_languages(source)
    branches = [members(name) for name in ([branch] if branch else {row.branch for row in pool})]
    if target in {row.code for row in pool}:
        return Group.SOURCE
    if (target_row.variety_of or target) in {row.variety_of or row.code for row in pool}:
        return Group.VARIETY
    return Group.RELATED if any(target in codes for codes in branches) else Group.CONTROL


def source_distance(source: str, target: str) -> float:
    """`distance` of a language from the nearest language of a source."""
    return min(distance(row.code, target) for row in source_languages(source))


def distance(left: str, right: str) -> float:
    """Genealogical distance in [0, 1]: 1 - 2 * shared / (nodes of `left` + nodes of `right`).

    A language's nodes are its path and the language itself; shared nodes are the common ancestors.
    The distance is 0 for one language in two scripts or dialects (one glottocode) and 1 between
    families. It is one minus the similarity of Wu and Palmer ("Verb semantics and lexical
    selection", ACL 1994), with depth counted from the root of the family.

    Depths are uneven: Glottolog has two dozen nodes above some languages and none above others, so
    use the order of distances from one language, not their size.
    """
    # A node occurs once in the tree, so the intersection is the set of common ancestors.
    left_nodes, right_nodes = (
        {*row.path, row.glottocode} for row in (language(left), language(right))
    )
    return 1 - 2 * len(left_nodes & right_nodes) / (len(left_nodes) + len(right_nodes))


def source_kilometres(source: str, target: str) -> float:
    """`kilometres` from a language to the nearest language of a source."""
    return min(kilometres(row.code, target) for row in source_languages(source))


def kilometres(left: str, right: str) -> float:
    """Great-circle distance of two languages in kilometres, by the haversine formula.

    A language is one point on the map here, also where it is spoken on several continents.
    """
    here, there = language(left), language(right)
    north, other_north = math.radians(here.latitude), math.radians(there.latitude)
    east = math.radians(there.longitude - here.longitude)
    haversine = (
        math.sin((other_north - north) / 2) ** 2
        + math.cos(north) * math.cos(other_north) * math.sin(east / 2) ** 2
    )
    return 2 * EARTH_RADIUS * math.asin(min(1.0, math.sqrt(haversine)))


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
        latitude=float(row["latitude"]),
        longitude=float(row["longitude"]),
        belebele=row["belebele"] == "1",
        sib200=row["sib200"] == "1",
    )


def _closest(text: str, names: Mapping[str, str]) -> str:
    """The values of the names closest to `text`, ignoring case; empty if none is close."""
    folded = {name.casefold(): value for name, value in names.items()}
    if text.casefold() in folded:
        return folded[text.casefold()]
    matches = closest(text, sorted(folded), cutoff=0.8)
    return " or ".join(dict.fromkeys(folded[name] for name in matches))
