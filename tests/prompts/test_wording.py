"""Wording: every file is whole, and a mistake in one is named by file and field."""

import re
import unicodedata
from importlib.resources import files

import pytest

from isogloss.errors import ConfigError, DataError
from isogloss.prompts import wording as package
from isogloss.prompts.wording import TEXTS, digest, languages, parse, wording
from isogloss.tasks import probe
from isogloss.tasks.sib200 import QUESTION, TOPICS

FOLDER = files(package)


def with_change(old: str, new: str) -> str:
    text = (FOLDER / "heb_Hebr.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    return text.replace(old, new)


def test_every_language_of_the_probe_has_wording_and_sixteen_more():
    assert set(probe.languages()) < set(languages())
    assert len(languages()) == 36
    assert list(languages()) == sorted(languages())


@pytest.mark.parametrize("code", languages())
def test_wording_is_whole_and_its_words_differ(code):
    found = wording(code)
    assert found.language == code
    assert tuple(found.texts) == TEXTS == (QUESTION, *TOPICS)
    words = (found.passage, found.question, found.answer, found.reasoning)
    assert len(set(words)) == 4
    assert found.reason_letter != found.reason_text
    for instruction in (found.reason_letter, found.reason_text):
        assert f'"{found.answer}:"' in instruction.format(answer=found.answer)


SCRIPTS = {
    "Latn": ("LATIN",),
    "Arab": ("ARABIC",),
    "Hebr": ("HEBREW",),
    "Ethi": ("ETHIOPIC",),
    "Deva": ("DEVANAGARI",),
    "Beng": ("BENGALI",),
    "Taml": ("TAMIL",),
    "Thai": ("THAI",),
    "Cyrl": ("CYRILLIC",),
    "Grek": ("GREEK",),
    "Hang": ("HANGUL",),
    "Jpan": ("HIRAGANA", "KATAKANA", "CJK"),
    "Hans": ("CJK",),
}


@pytest.mark.parametrize("code", languages())
def test_wording_is_in_the_script_of_its_language(code):
    found = wording(code)
    words = (found.passage, found.question, found.answer, found.reasoning)
    instructions = (found.reason_letter.format(answer=""), found.reason_text.format(answer=""))
    for text in (*words, *instructions, *found.texts.values()):
        letters = [char for char in text if char.isalpha()]
        assert letters
        assert all(unicodedata.name(char).startswith(SCRIPTS[code[-4:]]) for char in letters)
        assert unicodedata.is_normalized("NFC", text)


def test_english_wording_says_what_tasks_say_and_starts_lines_as_belebele_does():
    english = wording("eng_Latn")
    assert (english.passage, english.question, english.answer) == ("P", "Q", "Answer")
    assert all(text == shown for text, shown in english.texts.items())


@pytest.mark.parametrize("code", ["arz_Arab", "swe_Latn", "arb", ""])
def test_a_language_without_wording_is_named_with_those_that_have_some(code):
    with pytest.raises(ConfigError, match=f"'{code}'.*amh_Ethi, arb_Arab.*zho_Hans"):
        wording(code)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"תשובה"', '"תשובה:"', "answer must not hold a colon"),
        ('"תשובה"', '"תשובה："', "answer must not hold a colon"),
        ('"תשובה"', '"תשו\\nבה"', "answer must be one line"),
        ('"תשובה"', '""', "answer must be one line"),
        ('"תשובה"', '" תשובה"', "answer must be one line with no space around it"),
        ('"קטע"', '"קטע:"', "passage must not hold a colon"),
        ('passage: "קטע"', "", "passage is invalid: Field required"),
        ('"קטע"', "3", "passage is invalid"),
        ("reasoning:", "reason:", "is invalid"),
        ("language: heb_Hebr", "language: arb_Arab", "language must be the file's name"),
        ('"{answer}:" והאות', '"תשובה:" והאות', "reason_letter must hold {answer} once .* none"),
        ('"{answer}:" והאות', '"{answer}:" {answer}', "reason_letter must hold {answer} once"),
        ('"{answer}:" והתשובה', '"{letter}:"', "reason_text must hold {answer} once .*{letter}"),
        ('"{answer}:" והתשובה', '"{answer:" ', "reason_text has a brace that cannot be read"),
        ('  travel: "נסיעות"\n', "", "texts has no 'travel'"),
        ("  travel:", "  travels:", "texts has no 'travel'"),
        ('"נסיעות"', '""', "texts 'travel' must be one line"),
        ('"נסיעות"', '"ספורט"', "one translation for two texts"),
        ('"נסיעות"', '"נסיעות"\n  trips: "טיולים"', "texts has 'trips', which no task asks for"),
        ("texts:", "texts: [", "is not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_file_and_field(old, new, message):
    with pytest.raises(DataError, match=rf"^heb_Hebr\.yaml.*{message}"):
        parse(with_change(old, new), "heb_Hebr.yaml")


def test_the_digest_is_of_all_files_and_changes_with_any(monkeypatch):
    before = digest()
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert digest() == before
    changed = {
        name: text + "#" * (name == "yor_Latn.yaml") for name, text in package._texts().items()
    }
    monkeypatch.setattr(package, "_texts", lambda: changed)
    assert digest() != before
