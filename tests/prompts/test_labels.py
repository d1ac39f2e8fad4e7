"""Labels of options: letters, digits and native letters, and what has none."""

import unicodedata

import pytest

from isogloss.errors import ConfigError, DataError
from isogloss.languages import table
from isogloss.prompts.answer_parser import parse_answer
from isogloss.prompts.labels import known_labels, labels_of, native_labels
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import answer_labels, prompt, reasoning_prompt
from isogloss.prompts.wording import languages
from isogloss.tasks import Item
from isogloss.types import Labels

SCRIPTS = {"Geor": "GEORGIAN", "Armn": "ARMENIAN", "Gujr": "GUJARATI", "Guru": "GURMUKHI",
           "Orya": "ORIYA", "Telu": "TELUGU", "Laoo": "LAO", "Khmr": "KHMER", "Mymr": "MYANMAR",
           "Tibt": "TIBETAN", "Arab": "ARABIC", "Hebr": "HEBREW", "Ethi": "ETHIOPIC",
           "Grek": "GREEK", "Cyrl": "CYRILLIC", "Deva": "DEVANAGARI", "Beng": "BENGALI",
           "Taml": "TAMIL", "Thai": "THAI", "Hang": "HANGUL", "Jpan": "KATAKANA", "Hans": "CJK",
           "Hant": "CJK"}  # fmt: skip
OPTIONS = ("apple", "river", "cloud", "house", "tiger", "green", "seven", "music", "table")


def item(code: str, n_options: int = 4, item_id: str = "i") -> Item:
    return Item(item_id, "p", code, "Some text.", "Which one?", OPTIONS[:n_options], 0)


def test_native_labels_are_those_of_the_script() -> None:
    for code, shown in {
        "arb_Arab": "أبجد", "heb_Hebr": "אבגד", "ell_Grek": "ΑΒΓΔ", "rus_Cyrl": "АБВГ",
        "ukr_Cyrl": "АБВГ", "hin_Deva": "कखगघ", "ben_Beng": "কখগঘ", "tha_Thai": "กขคง",
        "jpn_Jpan": "アイウエ", "kor_Hang": "가나다라", "amh_Ethi": "ሀለሐመ", "tir_Ethi": "ሀለሐመ",
        "mlt_Latn": "ABCD", "fra_Latn": "ABCD",
    }.items():  # fmt: skip
        assert labels_of(item(code), Labels.NATIVE) == tuple(shown)
        assert labels_of(item(code), Labels.DIGITS) == ("1", "2", "3", "4")
        assert labels_of(item(code), Labels.LETTERS) == ("A", "B", "C", "D")


@pytest.mark.parametrize("code", native_labels())
def test_each_list_is_of_a_known_language_in_its_script_and_no_label_begins_another(
    code: str,
) -> None:
    labels = native_labels()[code]
    assert code in table()
    assert len(labels) >= 4
    for label in labels:
        assert unicodedata.is_normalized("NFC", label)
        assert all(unicodedata.name(char).startswith(SCRIPTS[code[-4:]]) for char in label)
        assert [other for other in labels if other.startswith(label)] == [label]


@pytest.mark.parametrize("code", native_labels())
def test_each_native_label_is_read_back_as_its_option(code: str) -> None:
    labels = native_labels()[code]
    options = OPTIONS[: len(labels)]
    for position, label in enumerate(labels[: len(options)]):
        for text in (label, f" {label}\n", f"{label}. because", f"({label})", f"Answer: {label}",
                     f"Answer: {label}: {options[position]}", f"so\nAnswer: **{label}**"):  # fmt: skip
            assert parse_answer(text, options, labels=labels) == position, text
        assert (
            parse_answer(f"Answer: {label} or {labels[position - 1]}", options, labels=labels)
            is None
        )


def test_every_language_with_wording_has_native_labels() -> None:
    missing = [code for code in languages() if not code.endswith("_Latn")]
    assert [code for code in missing if code not in native_labels()] == []


def test_a_language_without_native_labels_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"'kaz_Cyrl' has no native labels; .*labels=digits.*amh_"
    ):
        known_labels("kaz_Cyrl", Labels.NATIVE)


@pytest.mark.parametrize(
    ("code", "labels", "n", "most"),
    [("mar_Deva", "native", 5, "4 labels, अ to ड"), ("rus_Cyrl", "native", 6, "5 labels, А to Д")],
)
def test_an_item_with_more_options_than_labels_is_refused_by_its_id(
    code: str, labels: str, n: int, most: str
) -> None:
    with pytest.raises(DataError, match=f"item 'q7' in {code} has {n} options, but .*{most}"):
        labels_of(item(code, n, "q7"), Labels(labels))


def test_digits_end_at_nine_since_ten_begins_with_one() -> None:
    ten = Item("q", "p", "eng_Latn", "", "Which?", (*OPTIONS, "winter"), 0)
    assert labels_of(ten, Labels.LETTERS)[-1] == "J"
    with pytest.raises(DataError, match=r"item 'q' in eng_Latn has 10 options, .*9 labels, 1 to 9"):
        labels_of(ten, Labels.DIGITS)


@pytest.mark.parametrize("prompt_language", ["english", "target"])
def test_prompts_and_choices_have_the_labels(prompt_language: str) -> None:
    for labels, shown in (("letters", "ABCD"), ("digits", "1234"), ("native", "אבגד")):
        protocol = Protocol("letter", prompt_language=prompt_language, labels=Labels(labels))
        entry = prompt(item("heb_Hebr"), protocol)
        assert entry.continuations == tuple(f" {label}" for label in shown)
        lines = entry.context.splitlines()
        expected = zip(shown, OPTIONS[:4], strict=True)
        assert lines[2:-1] == [f"{label}: {option}" for label, option in expected]
        assert answer_labels("heb_Hebr", protocol)[:4] == tuple(shown)
    cloze = Protocol("cloze", labels=Labels.DIGITS)
    assert prompt(item("heb_Hebr"), cloze).continuations == tuple(f" {o}" for o in OPTIONS[:4])


def test_reasoning_asks_for_the_number_of_an_option_and_is_refused_where_it_cannot() -> None:
    digits = Protocol("letter", reasoning="cot", labels=Labels.DIGITS)
    assert 'has "Answer:" and the number of the right' in reasoning_prompt(item("heb_Hebr"), digits)
    native = Protocol("letter", reasoning="cot", labels=Labels.NATIVE)
    assert 'has "Answer:" and the letter of the right' in reasoning_prompt(item("heb_Hebr"), native)
    hebrew = Protocol("letter", prompt_language="target", reasoning="cot", labels=Labels.DIGITS)
    with pytest.raises(ConfigError, match=r"no wording in 'heb_Hebr' that asks .* a digit"):
        reasoning_prompt(item("heb_Hebr"), hebrew)
