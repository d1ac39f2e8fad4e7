"""Prompts: the frame in English and in the target language, chat templates, shuffled options."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import probe
from hypothesis import given
from hypothesis import strategies as st

from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.tokenizers import has_chat_template
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import (
    after_reasoning,
    answer_words,
    as_shown,
    prompt,
    reasoning_prompt,
    shuffle_options,
    unconditional_prompt,
)
from isogloss.prompts.tokenisation import encode
from isogloss.prompts.wording import wording
from isogloss.stages.session import Session
from isogloss.tasks import Item, open_task
from isogloss.tasks.sib200 import QUESTION, TOPICS

ITEM = Item("i", "p", "heb_Hebr", "Some text.", "Which one? ", ("one", "two", "three", "four"), 2)
TOPIC = Item("t", "t", "heb_Hebr", "A sentence.", QUESTION, TOPICS, 1)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}</>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def chatty(model_folder: Callable[[str], Path], tmp_path: Path) -> LanguageModel:
    """A tiny model whose tokenizer has a chat template."""
    model = load(locate(str(model_folder("gemma3"))), "float32")
    model.tokenizer.chat_template = TEMPLATE
    folder = tmp_path / "chatty"
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return load(locate(str(folder)), "float32")


def test_the_frame_is_that_of_lm_evaluation_harness_for_belebele_to_the_character() -> None:
    assert prompt(ITEM, Protocol("letter")).context == (
        "P: Some text.\nQ: Which one?\nA: one\nB: two\nC: three\nD: four\nAnswer:"
    )
    assert prompt(ITEM, Protocol("letter")).continuations == (" A", " B", " C", " D")
    assert prompt(ITEM, Protocol("generate")) == prompt(ITEM, Protocol("letter"))
    assert prompt(ITEM, Protocol("cloze")) == (
        "P: Some text.\nQ: Which one?\nAnswer:",
        (" one", " two", " three", " four"),
    )


def test_the_letter_prompt_of_the_probe_is_that_of_lm_evaluation_harness() -> None:
    item = probe("eng_Latn", "test", 1)[0]
    a, b, c, d = item.options
    assert prompt(item, Protocol("letter")) == (
        f"P: {item.passage}\nQ: {item.question}\nA: {a}\nB: {b}\nC: {c}\nD: {d}\nAnswer:",
        (" A", " B", " C", " D"),
    )


def test_white_space_of_passage_and_options_is_preserved() -> None:
    item = replace(ITEM, passage=" Some  text. \n", options=("one ", " two", "3", "4"))
    assert prompt(item, Protocol("letter")).context.startswith(
        "P:  Some  text. \n\nQ: Which one?\nA: one \nB:  two\n"
    )


def test_an_item_without_a_passage_has_no_line_for_it() -> None:
    assert prompt(replace(ITEM, passage=""), Protocol("cloze")).context == "Q: Which one?\nAnswer:"


def test_the_frame_in_the_target_language_has_that_languages_words_and_latin_letters() -> None:
    words = wording("heb_Hebr")
    entry = prompt(ITEM, Protocol("letter", prompt_language="target"))
    assert entry.context == (
        f"{words.passage}: Some text.\n{words.question}: Which one?\n"
        f"A: one\nB: two\nC: three\nD: four\n{words.answer}:"
    )
    assert entry.continuations == (" A", " B", " C", " D")
    assert answer_words("heb_Hebr", Protocol(prompt_language="target")) == (words.answer, "Answer")
    assert answer_words("heb_Hebr", Protocol()) == ("Answer",)


def test_texts_of_the_task_are_translated_and_texts_of_the_data_are_not() -> None:
    texts = wording("heb_Hebr").texts
    (shown,) = as_shown([TOPIC], "target", None, own_texts=True)
    assert shown.question == texts[QUESTION]
    assert shown.options == tuple(texts[topic] for topic in TOPICS)
    assert shown.passage == TOPIC.passage
    assert as_shown([TOPIC, ITEM], "english", None, own_texts=True) == [TOPIC, ITEM]
    assert as_shown([ITEM], "target", None, own_texts=True) == [ITEM]
    assert as_shown([TOPIC], "target", 3, own_texts=True) == [shuffle_options(shown, 3)]


def test_the_reasoning_prompt_asks_for_an_answer_in_the_format() -> None:
    for language in ("english", "target"):
        words = wording("heb_Hebr" if language == "target" else "eng_Latn")
        for format, instruction in (("letter", words.reason_letter), ("cloze", words.reason_text)):
            protocol = Protocol(format, prompt_language=language, reasoning="cot")
            context = reasoning_prompt(ITEM, protocol)
            assert context.endswith(
                f"{instruction.format(answer=words.answer)}\n{words.reasoning}:"
            )
            assert ("B: two" in context) == (format == "letter")
            scored = after_reasoning(ITEM, protocol, context, " Two and one. ")
            assert scored.context == f"{context} Two and one.\n{words.answer}:"
            assert scored.continuations == prompt(ITEM, protocol).continuations


def test_the_unconditional_prompt_contains_only_the_answer_word_and_the_options() -> None:
    assert unconditional_prompt(ITEM, Protocol("cloze")) == (
        "Answer:",
        (" one", " two", " three", " four"),
    )


def test_with_a_chat_template_the_prompt_is_the_users_turn(chatty: LanguageModel) -> None:
    protocol = Protocol("letter", chat=True)
    plain = prompt(ITEM, Protocol("letter"))
    entry = prompt(ITEM, protocol, chatty.tokenizer)
    assert entry.context == f"<bos><user>{plain.context}</><assistant>"
    assert entry.continuations == ("A", "B", "C", "D")
    cloze = Protocol("cloze", chat=True)
    alone = unconditional_prompt(ITEM, cloze, chatty.tokenizer)
    assert alone == ("<bos><user>Answer:</><assistant>", ITEM.options)
    reasoning = reasoning_prompt(ITEM, cloze, chatty.tokenizer)
    assert reasoning.startswith("<bos><user>P: Some text.")
    assert reasoning.endswith("</><assistant>")
    (encoded,) = encode(chatty.tokenizer, [entry], chat=True)
    bos = chatty.tokenizer.bos_token_id
    assert encoded.sequences[0][0] == bos
    assert encoded.sequences[0].count(bos) == 1


def test_a_chat_template_is_used_if_there_is_one_unless_it_is_disabled(
    chatty: LanguageModel, model_folder: Callable[[str], Path]
) -> None:
    task = open_task("probe", None)
    with_template = Session(str(chatty.location.folder), "float32")
    without = Session(str(model_folder("gemma3")), "float32")
    assert has_chat_template(chatty.location)
    for chat, expected in (("auto", True), ("on", True), ("off", False)):
        assert with_template.protocol(EvaluateConfig(chat=chat), task).chat is expected
    for chat in ("auto", "off"):
        assert without.protocol(EvaluateConfig(chat=chat), task).chat is False
    with pytest.raises(ConfigError, match="has no chat template"):
        without.protocol(EvaluateConfig(chat="on"), task)


@given(st.integers(0, 10**6), st.integers(2, 10), st.integers(0, 9))
def test_shuffling_keeps_the_correct_option_and_is_the_same_in_every_language(
    seed: int, n: int, answer: int
) -> None:
    item = replace(ITEM, options=tuple(f"option {index}" for index in range(n)), answer=answer % n)
    shuffled = shuffle_options(item, seed)
    assert sorted(shuffled.options) == sorted(item.options)
    assert shuffled.options[shuffled.answer] == item.options[item.answer]
    amharic = shuffle_options(replace(item, language="amh_Ethi"), seed)
    assert (amharic.options, amharic.answer) == (shuffled.options, shuffled.answer)


def test_shuffling_puts_answers_at_every_position_and_depends_on_the_seed() -> None:
    items = probe("eng_Latn", "test", None)
    positions = Counter(shuffle_options(item, 1).answer for item in items)
    assert all(70 <= positions[index] <= 130 for index in range(4)), positions
    assert [shuffle_options(item, 1) for item in items] != [
        shuffle_options(item, 2) for item in items
    ]
