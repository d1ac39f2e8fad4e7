"""Passages of the training data are rejected in evaluations of any language and task."""

import os
from pathlib import Path

import pytest
from conftest import probe
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import DataError
from isogloss.prompts.render import shuffle_options
from isogloss.tasks import Item, items, open_task
from isogloss.training.contamination import (
    fingerprints,
    read_record,
    refuse_contamination,
    refuse_overlap,
    training_record,
)

REAL = Path(os.environ.get("ISOGLOSS_TEST_DATA", "absent"))
needs_data = pytest.mark.skipif(
    not (REAL / "belebele").is_dir(),
    reason="set ISOGLOSS_TEST_DATA to a folder with sib200/ and belebele/",
)
SENTENCES = [
    "The harbour was closed for three days after the storm, and no boat could leave.",
    "Teachers in the valley asked for a second bridge, since the old one floods each spring.",
    "A museum of clocks opened in the old mill; it shows two hundred of them, all running.",
    "Farmers sold their wool at the market on the hill, as their grandparents had done.",
]


def item(text: str, passage: str, language: str = "eng_Latn", question: str = "What?") -> Item:
    return Item(f"{passage}-1", passage, language, text, question, ("one", "two"), 0)


def test_a_training_passage_is_rejected_in_every_language_by_its_id() -> None:
    trained = training_record("probe", probe("arb_Arab", "train", 8))
    for code in ("arb_Arab", "heb_Hebr", "eng_Latn"):
        refuse_contamination(trained, "probe", probe(code, "test", 8), [])
        refuse_contamination(trained, "probe", probe(code, "dev", 8), [])
        with pytest.raises(
            DataError, match=r"4 of the 6 passages of probe .* 'train-0000'"
        ) as raised:
            refuse_contamination(trained, "probe", probe(code, "train", 12), [])
        assert "and 1 more" in str(raised.value)


def test_a_training_sentence_is_matched_within_a_passage_of_another_task() -> None:
    trained = training_record("sib200", [item(text, str(at)) for at, text in enumerate(SENTENCES)])
    passage = f"On Monday it rained.  {SENTENCES[2].upper()} Entry is free."
    other = "Nothing of this was ever read by anyone who trained a model on these sentences."
    english = [item(passage, "link-a"), item(other, "link-b")]
    hebrew = [item("טקסט אחר", "link-a", "heb_Hebr"), item("עוד טקסט", "link-b", "heb_Hebr")]
    with pytest.raises(DataError, match=r"1 of the 2 passages of belebele .* 'link-a' \(as '2'\)"):
        refuse_contamination(trained, "belebele", hebrew, english)
    refuse_contamination(trained, "belebele", hebrew[1:], english)
    refuse_contamination(trained, "belebele", hebrew, [])  # no text to match


def test_a_training_passage_is_matched_where_a_task_has_one_sentence_of_it() -> None:
    trained = training_record("belebele", [item(" ".join(SENTENCES), "link-a")])
    with pytest.raises(DataError, match="1 of the 1 passages of sib200"):
        refuse_contamination(
            trained, "sib200", [item(SENTENCES[1], "7")], [item(SENTENCES[1], "7")]
        )


@given(st.permutations(SENTENCES), st.integers(1, 3), st.sampled_from([str, str.upper, str.title]))
def test_a_sentence_is_matched_whatever_surrounds_it(
    order: list[str], count: int, case: object
) -> None:
    trained = training_record("one", [item(order[0], "1")])
    passage = [item(case("  ".join([*order[1:count], order[0], *order[count:]])), "p")]
    with pytest.raises(DataError):
        refuse_contamination(trained, "two", passage, passage)


def test_texts_that_share_only_words_do_not_match() -> None:
    trained = training_record("one", [item(text, str(at)) for at, text in enumerate(SENTENCES[:2])])
    refuse_contamination(
        trained, "two", [item(text, text) for text in SENTENCES[2:]],
        [item(text, text) for text in SENTENCES[2:]],
    )  # fmt: skip


def test_items_without_a_passage_are_matched_by_question_and_options() -> None:
    trained = training_record("one", [item("", "1", question=SENTENCES[0])])
    same, other = (item("", "x", question=text) for text in SENTENCES[:2])
    refuse_contamination(trained, "two", [other], [other])
    with pytest.raises(DataError, match="1 of the 1"):
        refuse_contamination(trained, "two", [same], [same])


def test_the_record_is_beside_the_adapter_and_discloses_no_text(tmp_path: Path) -> None:
    trained = training_record("probe", probe("arb_Arab", "train", 8))
    trained.write(tmp_path)
    assert read_record(tmp_path) == trained
    written = next(tmp_path.iterdir()).read_text("utf-8")
    for item_ in probe("arb_Arab", "train", 8):
        assert not any(word in written for word in item_.passage.split() if not word.isascii())
    assert read_record(tmp_path / "elsewhere") is None


def test_fingerprints_do_not_depend_on_case_punctuation_or_white_space() -> None:
    text = SENTENCES[0]
    assert fingerprints(text) == fingerprints(f"  «{text.upper().replace(' ', '   ')}» ")
    assert len(fingerprints("short")) == 1
    assert fingerprints("short") != fingerprints("shout")


def test_a_passage_in_train_and_dev_is_rejected_by_id_or_by_text() -> None:
    train = [item(text, str(at)) for at, text in enumerate(SENTENCES[:2])]
    refuse_overlap(train, [item(SENTENCES[2], "9")], "files")
    with pytest.raises(DataError, match="1 passages of task 'files' are both in train and in dev"):
        refuse_overlap(train, [item(SENTENCES[2], "1")], "files")
    with pytest.raises(DataError, match="the first '9' \\(in train '0'\\)"):
        refuse_overlap(train, [item(f" {SENTENCES[0].upper()}", "9")], "files")


@needs_data
def test_real_sib200_sentences_match_real_belebele_passages() -> None:
    sib200 = open_task("sib200", str(REAL / "sib200"))
    belebele = open_task("belebele", str(REAL / "belebele"))
    for code in ("eng_Latn", "arb_Arab"):
        sentences = items(sib200, code, "train", None)
        trained = training_record("sib200", sentences)
        passages = items(belebele, code, "all", None)
        within = {
            passage.passage_id
            for passage in passages
            if any(sentence.passage.strip('" ') in passage.passage for sentence in sentences)
        }
        with pytest.raises(DataError) as raised:
            refuse_contamination(trained, "belebele", passages, passages)
        count = int(str(raised.value).split(" and ")[1].split()[0])
        assert len(within) > 100
        assert len(within) <= count <= 1.15 * len(within), (code, len(within), count)


def test_options_in_another_order_match() -> None:
    question = Item("1", "1", "eng_Latn", "", SENTENCES[0], ("one", "two", "three"), 0)
    trained = training_record("one", [shuffle_options(question, 1)])
    with pytest.raises(DataError, match="1 of the 1"):
        refuse_contamination(trained, "two", [question], [shuffle_options(question, 5)])
