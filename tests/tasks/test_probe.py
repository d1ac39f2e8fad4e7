"""The probe task: parallel, balanced, disjoint by split, and answerable from the passage alone."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import combinations, pairwise, product
from pathlib import Path

import pytest

from isogloss.errors import DataError
from isogloss.tasks import probe

SRC = Path(__file__).parents[2] / "src"
LANGUAGES = probe.languages()
SPLITS = ("train", "dev", "test")
TEMPLATES = SRC / "isogloss" / "tasks" / "probe_templates"


def run(code: str, hash_seed: int = 0) -> str:
    """The output of a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(SRC), "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()


def occurs(filler: str, text: str, language: str) -> bool:
    """Whether `filler` is a whole word in `text` (in Chinese: a substring)."""
    at = text.find(filler)
    while at >= 0:
        around = text[:at][-1:] + text[at + len(filler) :][:1]
        attached = any(unicodedata.category(char)[0] in "LMN" for char in around)
        if language == "zho_Hans" or not attached:
            return True
        at = text.find(filler, at + 1)
    return False


def with_change(old: str, new: str) -> str:
    text = (TEMPLATES / "eng_Latn.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    return text.replace(old, new)


def test_there_are_twenty_languages_and_each_loads_every_split():
    assert len(LANGUAGES) == 20
    for language, split in product(LANGUAGES, SPLITS):
        assert len(probe.load(language, split)) == 2 * probe.PASSAGES[split]


def test_items_are_parallel_across_languages():
    def shape(language: str) -> list[tuple[str, str, int, int]]:
        return [
            (item.item_id, item.passage_id, item.answer, sum(map(item.passage.count, ".።。۔।")))
            for item in probe.load(language, "test")
        ]

    english = shape("eng_Latn")
    assert {facts for _, _, _, facts in english} == {4, 5, 6}
    assert all(shape(language) == english for language in LANGUAGES)


def test_two_questions_of_a_passage_are_adjacent_and_ask_for_different_facts():
    items = probe.load("eng_Latn", "test")
    for index, (first, second) in enumerate(zip(items[::2], items[1::2], strict=True)):
        assert first.passage_id == second.passage_id == f"test-{index:04d}"
        assert (first.item_id, second.item_id) == (f"test-{index:04d}-1", f"test-{index:04d}-2")
        assert first.passage == second.passage
        assert first.question != second.question
        assert first.options[first.answer] != second.options[second.answer]


@pytest.mark.parametrize("placeholder", probe.FILLERS)
def test_no_filler_is_in_two_splits(placeholder):
    for one, other in combinations(SPLITS, 2):
        by_split = probe.FILLERS[placeholder]
        assert not set(by_split[one]) & set(by_split[other])


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_of_one_split_are_never_answers_of_another(language):
    options = [{o for item in probe.load(language, s) for o in item.options} for s in SPLITS]
    for one, other in combinations(options, 2):
        assert not one & other


@pytest.mark.parametrize("language", LANGUAGES)
def test_fillers_of_a_language_have_distinct_names(language):
    named = probe.filler_names(language)
    names = [
        name.casefold() for (kind, _), name in named.items() if kind in ("country", "language")
    ]
    assert len(names) == len(set(names)) == 90
    for split in SPLITS:
        for placeholder, ids in probe.FILLERS.items():
            assert len({named[placeholder, i] for i in ids[split]}) == len(ids[split])


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_normalised_and_carry_no_invisible_marks(language):
    joiner = "\u200c"  # Persian spelling
    for name in probe.filler_names(language).values():
        assert name == unicodedata.normalize("NFC", name).strip()
        assert not [c for c in name if unicodedata.category(c) in ("Cf", "Cc") and c != joiner]


@pytest.mark.parametrize("language", LANGUAGES)
def test_options_are_distinct_whole_words_of_the_passage(language):
    for item in (item for split in SPLITS for item in probe.load(language, split)):
        assert len(set(item.options)) == 4
        for option in item.options:
            assert occurs(option, item.passage, language), (item.passage, option)


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "zho_Hans"])
def test_nothing_is_attached_to_a_placeholder(language):
    for kind, wording in probe.read_template(language).kinds.items():
        assert not re.search(r"\w\{|\}\w", wording.fact + " " + wording.question), kind


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_does_not_contain_its_answer(language):
    for item in probe.load(language, "test"):
        assert not occurs(item.options[item.answer], item.question, language)


def test_answers_are_uniform_over_positions():
    for split in SPLITS:
        assert set(Counter(item.answer for item in probe.load("eng_Latn", split)).values()) == {
            probe.PASSAGES[split] // 2
        }


def test_every_kind_occurs_equally_and_has_four_to_six_distinct_facts():
    kinds = Counter()
    for index in range(80):
        kind, facts, _ = probe.draw_facts("test", index, seed=0)
        kinds[kind] += 1
        months = "month" in (*probe.KINDS[kind][0], probe.KINDS[kind][1])
        assert len(facts) == 4 if months else 4 <= len(facts) <= 6
        assert len({fact.keys for fact in facts}) == len({f.value for f in facts}) == len(facts)
    assert kinds == dict.fromkeys(probe.KINDS, 10)


def test_items_depend_on_the_seed_and_not_on_the_process():
    code = (
        "from isogloss.tasks import probe; import dataclasses, json;"
        "print(json.dumps([dataclasses.astuple(i) for i in probe.load('tir_Ethi', 'dev', seed=5)]))"
    )
    one, other = run(code, hash_seed=1), run(code, hash_seed=2)
    assert json.loads(one) == json.loads(other)
    assert json.loads(one)[0][3] == probe.load("tir_Ethi", "dev", seed=5)[0].passage
    assert probe.load("tir_Ethi", "dev", seed=5) != probe.load("tir_Ethi", "dev", seed=6)


def test_a_smaller_set_is_a_prefix_of_a_larger_one():
    sizes = (1, 7, 60, 400)
    for small, large in pairwise(probe.load("eng_Latn", "train", size) for size in sizes):
        assert large[: len(small)] == small


def test_a_name_that_the_table_lacks_is_named(monkeypatch):
    rows = {("month", "1"): {"eng_Latn": ""}}
    monkeypatch.setattr(probe, "_name_table", lambda: rows)
    with pytest.raises(
        DataError, match=r"no name in eng_Latn for month 1: .*scripts\.build_probe_names"
    ):
        probe.filler_names.__wrapped__("eng_Latn")


def test_an_unknown_language_or_size_raises_an_error_with_the_accepted_values():
    with pytest.raises(DataError, match=r"no language 'xxx_Latn'; it has amh_Ethi, arb_Arab"):
        probe.load("xxx_Latn", "test")
    for size in (0, -1, 2001):
        with pytest.raises(DataError, match=rf"from 1 to 2000 but got {size}"):
            probe.load("eng_Latn", "test", size)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("visited {country}.", "visited it.", r"x.yaml: visit fact contains \{country\} 0 times"),
        ("visit in {month}?", "visit?", r"x.yaml: visit question contains \{month\} 0 times"),
        (
            "visit in {month}?",
            "visit {year}, {month}?",
            r"visit question contains \{year\} 1 times",
        ),
        ("visit in {month}?", "visit in {month?", r"x.yaml: visit question has an invalid brace"),
        (
            "  guide:",
            "  guides:",
            r"x.yaml must have exactly the kinds .*; missing or unknown: guide, guides",
        ),
        ("months: format", "months: genitive", r"x.yaml: line \d+: months is invalid"),
        ("locale: en", "", r"x.yaml: locale is invalid"),
        ("locale: en", "locale: [", r"x.yaml is not YAML"),
    ],
)
def test_a_template_error_names_the_file_the_kind_and_the_placeholder(old, new, message):
    with pytest.raises(DataError, match=message):
        probe.parse_template(with_change(old, new), "x.yaml")
