"""probe: parallel reading comprehension in 20 languages, drawn from templates.

A passage states four to six facts of one kind; a question asks for one of them, and its four
options all occur in the passage. Facts are drawn before any language is chosen, so items are
parallel by construction. Names come from `probe_names.csv` (CLDR), wording from
`probe_templates/CODE.yaml`. Facts are invented, so a question can only be answered by reading the
passage. A change of any item's text needs another PROBE_VERSION.
"""

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from string import Formatter
from typing import Literal, NamedTuple

from pydantic import BaseModel

from isogloss.errors import ConfigError, DataError
from isogloss.tasks.items import Item, Task
from isogloss.types import Format, Normalisation, Split
from isogloss.yaml_files import parse_yaml

PASSAGES: dict[Split, int] = {Split.TRAIN: 400, Split.DEV: 60, Split.TEST: 200}
MOST_PASSAGES = 2000
OPTIONS = 4
NAMED = ("month", "weekday", "country", "language", "currency")  # other fillers are digits

# Placeholders of a fact by kind: those that identify it, and the one its question asks for.
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "visit": (("month",), "country"),
    "lesson": (("weekday", "hour"), "language"),
    "shop": (("number",), "currency"),
    "guest": (("number",), "country"),
    "course": (("number",), "month"),
    "book": (("number",), "language"),
    "parcel": (("country",), "weight"),
    "guide": (("country",), "language"),
}


def _thirds(ids: str) -> dict[Split, tuple[str, ...]]:
    """Assign ids to the splits in turn. The position in the list decides, so only ever append."""
    parts = (Split.TRAIN, Split.DEV, Split.TEST)
    return {split: tuple(ids.split()[start::3]) for start, split in enumerate(parts)}


_NUMBERS = _thirds(" ".join(str(number) for number in range(11, 100)))

# No filler is in two splits. A code is listed only if CLDR's name for it is right in every
# language, and no language is listed together with the country of the same name, because Finnish,
# Indonesian and Somali use one word for both. No month's name is contained in that of another month
# of its split (yī yuè in shíyī yuè, tháng 1 in tháng 10).
FILLERS: dict[str, dict[Split, tuple[str, ...]]] = {
    "month": {
        Split.TRAIN: ("1", "4", "6", "9"),
        Split.DEV: ("2", "5", "8", "11"),
        Split.TEST: ("3", "7", "10", "12"),
    },
    "weekday": {Split.TRAIN: ("0", "2", "4"), Split.DEV: ("1", "6"), Split.TEST: ("3", "5")},
    "hour": _thirds("8 9 10 11 12 13 14 15 16 17 18 19"),
    "number": _NUMBERS,
    "weight": _NUMBERS,
    "country": _thirds(
        "EG MX BR AR CL CU CA PE KE ET TZ UG RW MA DZ TN LY SD AO YE JO LB IQ IR PK AU ZA SN GH NG"
        " CM BO CO EC JM AT BE ZM MZ MG KW AF PY IE CY"
    ),
    "language": _thirds(
        "ar am he en fr es it el ru ja ko hi ur ne ta te pa th id ms jv sw ha yo ig so om mt pt uz"
        " nl sv hu cs ro bg uk sr sq hy ka az lt ca ti"
    ),
    "currency": _thirds(
        "EGP MAD TND JOD IQD ETB BWP KES TZS NGN GHS ZAR EUR USD CHF JPY INR PKR HUF SEK TRY MXN"
        " ARS AUD"
    ),
}


class Wording(BaseModel, extra="forbid", frozen=True):
    """How one kind of fact is stated and how it is asked for."""

    fact: str
    question: str


class Template(BaseModel, extra="forbid", frozen=True):
    """One file of `probe_templates`.

    `locale`, `months` and `weekdays` (the CLDR form of the names) and `currencies` state where
    scripts/build_probe_names.py takes names from.
    """

    language: str
    locale: str
    months: Literal["format", "stand-alone"]
    weekdays: Literal["format", "stand-alone"]
    join: str
    currencies: dict[str, str] = {}
    kinds: dict[str, Wording]


@dataclass(frozen=True)
class Fact:
    """One statement, as filler ids in the order of the placeholders in KINDS."""

    keys: tuple[str, ...]
    value: str


def open_task(data_dir: str | None) -> Task:
    """The task; ConfigError if a folder is given, since items are generated from templates."""
    if data_dir is not None:
        raise ConfigError(
            f"task 'probe' is generated from templates and takes no data_dir but got {data_dir!r}."
        )

    def read(language: str, split: Split) -> list[Item]:
        parts = tuple(PASSAGES) if split == Split.ALL else (split,)
        return [item for part in parts for item in load(language, part)]

    return Task("probe", languages(), read, format=Format.CLOZE, normalisation=Normalisation.LENGTH)


def languages() -> tuple[str, ...]:
    """Sorted codes of the languages that have a template."""
    names = (entry.name for entry in (files(__package__) / "probe_templates").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load(language: str, split: Split, passages: int | None = None, seed: int = 0) -> list[Item]:
    """Two adjacent items per passage; passage i is of kind i mod 8, so any prefix is balanced.

    `passages` defaults to PASSAGES[split]. A smaller set is a prefix of a larger one. Raises
    DataError for an unknown split or language and for more than MOST_PASSAGES passages.
    """
    if split not in PASSAGES:
        raise DataError(f"split {str(split)!r} is not one of {', '.join(PASSAGES)}.")
    count = PASSAGES[split] if passages is None else passages
    if not 1 <= count <= MOST_PASSAGES:
        raise DataError(f"`passages` must be from 1 to {MOST_PASSAGES} but got {count}.")
    return list(_generate(language, split, count, seed))


@cache  # every run of a study reads the same items
def _generate(language: str, split: Split, count: int, seed: int) -> tuple[Item, ...]:
    template = read_template(language)
    return tuple(item for i in range(count) for item in _passage_items(template, split, i, seed))


@cache
def read_template(language: str) -> Template:
    """The checked template of a language; DataError if there is none or it cannot be used."""
    if language not in languages():
        raise DataError(f"probe has no language {language!r}; it has {', '.join(languages())}.")
    file = files(__package__) / "probe_templates" / f"{language}.yaml"
    return parse_template(file.read_text(encoding="utf-8"), file.name)


def parse_template(text: str, file: str) -> Template:
    """Read and check a template; DataError names the file, the kind and the placeholder."""
    template = parse_yaml(text, file, Template)
    if differing := template.kinds.keys() ^ KINDS.keys():
        raise DataError(
            f"{file} must have exactly the kinds {', '.join(KINDS)}; missing or unknown: "
            f"{', '.join(sorted(differing))}."
        )
    for kind, (keys, value) in KINDS.items():
        wording = template.kinds[kind]
        _check_placeholders(wording.fact, (*keys, value), f"{file}: {kind} fact")
        _check_placeholders(wording.question, keys, f"{file}: {kind} question")
    return template


def _check_placeholders(text: str, expected: tuple[str, ...], place: str) -> None:
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise DataError(f"{place} has an invalid brace: {error}.") from None
    for name in sorted({*names, *expected}):
        if names.count(name) != expected.count(name):
            raise DataError(
                f"{place} contains {{{name}}} {names.count(name)} times but must contain it "
                f"{expected.count(name)} times."
            )


@cache
def filler_names(language: str) -> Mapping[tuple[str, str], str]:
    """Names of the fillers in a language, by placeholder and id; numbers are their own names.

    Raises DataError if probe_names.csv lacks a name.
    """
    rows = _name_table()
    names = {}
    for placeholder, by_split in FILLERS.items():
        for filler in (filler for ids in by_split.values() for filler in ids):
            if placeholder not in NAMED:
                names[placeholder, filler] = filler
                continue
            name = rows.get((placeholder, filler), {}).get(language)
            if not name:
                raise DataError(
                    f"probe_names.csv has no name in {language} for {placeholder} {filler}: after "
                    f"adding a template, run `python -m scripts.build_probe_names`."
                )
            names[placeholder, filler] = name
    return names


@cache
def _name_table() -> Mapping[tuple[str, str], Mapping[str, str]]:
    """The rows of probe_names.csv, by placeholder and id: names by language."""
    text = (files(__package__) / "probe_names.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {(row["placeholder"], row["id"]): row for row in rows}


def draw_facts(split: Split, index: int, seed: int) -> tuple[str, list[Fact], random.Random]:
    """Kind and facts of a passage, and the generator that draws its questions."""
    rng = random.Random(f"probe/{seed}/{split}/{index}")
    kind = list(KINDS)[index % len(KINDS)]
    key_names, value_name = KINDS[kind]
    count = OPTIONS if "month" in (*key_names, value_name) else rng.randint(OPTIONS, OPTIONS + 2)
    keys = rng.sample(list(product(*(FILLERS[name][split] for name in key_names))), count)
    values = rng.sample(FILLERS[value_name][split], count)
    return kind, [Fact(*fact) for fact in zip(keys, values, strict=True)], rng


class _Question(NamedTuple):
    """One question about a passage: the fact that is asked for, and the options in order."""

    gold: Fact
    options: tuple[Fact, ...]
    answer: int


@cache  # the same in every language
def _draw_passage(
    split: Split, index: int, seed: int
) -> tuple[str, tuple[Fact, ...], tuple[_Question, ...]]:
    """Kind, facts and questions of a passage."""
    kind, facts, rng = draw_facts(split, index, seed)
    # The four questions of two passages have their answers at four different positions.
    positions = list(range(OPTIONS))
    random.Random(f"probe/{seed}/{split}/places/{index // 2}").shuffle(positions)
    questions = []
    for number, gold in enumerate(rng.sample(facts, 2)):
        options = rng.sample([fact for fact in facts if fact != gold], OPTIONS - 1)
        answer = positions[index % 2 * 2 + number]
        options.insert(answer, gold)
        questions.append(_Question(gold, tuple(options), answer))
    return kind, tuple(facts), tuple(questions)


def _passage_items(template: Template, split: Split, index: int, seed: int) -> list[Item]:
    kind, facts, questions = _draw_passage(split, index, seed)
    key_names, value_name = KINDS[kind]
    wording = template.kinds[kind]
    names = filler_names(template.language)

    def keys(fact: Fact) -> dict[str, str]:
        return {name: names[name, key] for name, key in zip(key_names, fact.keys, strict=True)}

    def value(fact: Fact) -> str:
        return names[value_name, fact.value]

    passage = template.join.join(
        wording.fact.format(**keys(fact), **{value_name: value(fact)}) for fact in facts
    )
    return [
        Item(
            item_id=f"{split}-{index:04d}-{number}",
            passage_id=f"{split}-{index:04d}",
            language=template.language,
            passage=passage,
            question=wording.question.format(**keys(question.gold)),
            options=tuple(value(fact) for fact in question.options),
            answer=question.answer,
        )
        for number, question in enumerate(questions, start=1)
    ]
