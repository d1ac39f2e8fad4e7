"""Wording: every file is complete, and a mistake in one is named by file and field."""

import unicodedata
from importlib.resources import files

import pytest

from isogloss.errors import ConfigError, DataError
from isogloss.prompts import wording as package
from isogloss.prompts.wording import TEXTS, languages, parse, wording
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
def test_wording_is_complete_and_its_words_differ(code):
    entry = wording(code)
    assert entry.language == code
    assert tuple(entry.texts) == TEXTS == (QUESTION, *TOPICS)
    assert len({entry.passage, entry.question, entry.answer, entry.reasoning}) == 4
    assert entry.reason_letter != entry.reason_text
    for instruction in (entry.reason_letter, entry.reason_text):
        assert f'"{entry.answer}:"' in instruction.format(answer=entry.answer)


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
    entry = wording(code)
    words = (entry.passage, entry.question, entry.answer, entry.reasoning)
    instructions = (entry.reason_letter.format(answer=""), entry.reason_text.format(answer=""))
    for text in (*words, *instructions, *entry.texts.values()):
        letters = [char for char in text if char.isalpha()]
        assert letters
        assert all(unicodedata.name(char).startswith(SCRIPTS[code[-4:]]) for char in letters)
        assert unicodedata.is_normalized("NFC", text)


def test_english_wording_repeats_the_texts_of_tasks_and_begins_lines_as_belebele_does():
    english = wording("eng_Latn")
    assert (english.passage, english.question, english.answer) == ("P", "Q", "Answer")
    assert all(text == shown for text, shown in english.texts.items())


@pytest.mark.parametrize("code", ["arz_Arab", "swe_Latn", "arb", ""])
def test_a_language_without_wording_is_rejected_and_the_available_ones_are_listed(code):
    with pytest.raises(ConfigError, match=f"'{code}'.*amh_Ethi, arb_Arab.*zho_Hans"):
        wording(code)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"תשובה"', '"תשובה:"', "answer must not contain a colon"),
        ('"תשובה"', '"תשובה："', "answer must not contain a colon"),
        ('"תשובה"', '"תשו\\nבה"', "answer must be one line"),
        ('"תשובה"', '""', "answer must be one line"),
        ('"תשובה"', '" תשובה"', "answer must be one line without surrounding spaces"),
        ('"קטע"', '"קטע:"', "passage must not contain a colon"),
        ('passage: "קטע"', "", "passage is invalid: Field required"),
        ('"קטע"', "3", "passage is invalid"),
        ("reasoning:", "reason:", "is invalid"),
        ("language: heb_Hebr", "language: arb_Arab", "language must be the file's name"),
        ('"{answer}:" והאות', '"תשובה:" והאות', "reason_letter must contain {answer} once .* none"),
        ('"{answer}:" והאות', '"{answer}:" {answer}', "reason_letter must contain {answer} once"),
        ('"{answer}:" והתשובה', '"{letter}:"', "reason_text must contain {answer} once .*{letter}"),
        ('"{answer}:" והתשובה', '"{answer:" ', "reason_text has an unmatched brace"),
        ('  travel: "נסיעות"\n', "", "texts lacks 'travel'"),
        ("  travel:", "  travels:", "texts lacks 'travel'"),
        ('"נסיעות"', '""', "texts 'travel' must be one line"),
        ('"נסיעות"', '"ספורט"', "have the same translation"),
        (
            '"נסיעות"',
            '"נסיעות"\n  trips: "טיולים"',
            "texts has 'trips', which no task uses",
        ),
        ("texts:", "texts: [", "is not YAML"),
    ],
)
def test_a_mistake_is_reported_with_file_and_field(old, new, message):
    with pytest.raises(DataError, match=rf"^heb_Hebr\.yaml.*{message}"):
        parse(with_change(old, new), "heb_Hebr.yaml")
