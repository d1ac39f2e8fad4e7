"""Golden digests: rules of parsing, and prompts, do not change without their version.

Both versions are part of fingerprints. If a rule changes and its version does not, finished runs of
the old rule are reused for the new one.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import product

from chat_templates import QWEN_3
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from isogloss.prompts import answer_patterns
from isogloss.prompts.answer_parser import PARSER_VERSION, answer_start, is_complete, parse_answer
from isogloss.prompts.answer_patterns import ENUMERATIONS
from isogloss.prompts.labels import DIGITS, native_labels
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import (
    PROMPT_VERSION,
    after_reasoning,
    answer_words,
    as_shown,
    prompt,
    reasoning_prompt,
    unconditional_prompt,
)
from isogloss.prompts.wording import languages, wording
from isogloss.tasks import Item
from isogloss.tasks.afrixnli import OPTIONS as NLI_OPTIONS
from isogloss.tasks.afrixnli import QUESTION as NLI_QUESTION
from isogloss.tasks.sib200 import QUESTION, TOPICS
from isogloss.types import Format, Labels, PromptLanguage, Reasoning

LEADS = ("", " ", "**", "It says so.\n", "1. First.\n2. Then", "I think A dog ran. ")
MARKERS = (
    "", "Answer:", "**Final Answer:** ", "The answer is", "answer", "so option", "(", "Ответ:",
    "الإجابة:", "فالإجابة هي", "תשובה:", "答案是", "答え", "Câu trả lời:",
)  # fmt: skip
SYMBOLS = (
    "B", "b", "C because", "A dog", "I", "B or C", "not B", "2", "٣", "②", "2.5", "ב", "В", "Б",
    "ب", "ث", "پ", "乙", "ㄷ", "Paris", "new york", "New York or Paris", "C'est Paris", "Rome!", "",
)  # fmt: skip
ENDS = (
    "", ".", "\n", ")", ": Paris", " Rome.", "です", "/C", "\n2. Rome", "\n\nQ: what?\nAnswer: D",
    "\nCâu hỏi: gì?", "\nSo it is (C)", "\nIt says: Rome", " (1) York",
)  # fmt: skip
OPTION_LISTS = (
    ("Rome", "Paris", "New York", "York"),
    ("B", "C", "A", "D"),
    ("5", "2", "3"),
    ("", "باريس", "Paris", "PARIS", "x", "y", "z", "u", "v", "C'est Paris"),
)
CITIES = ("Rome", "Paris", "Berlin", "London")
WORDS = ("Answer", "Ответ", "الإجابة", "תשובה", "答案", "答え", "Câu trả lời")


def sha256(lines: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(repr, lines)).encode()).hexdigest()[:16]


def parsed() -> Iterator[object]:
    """What the parser makes of many texts, in every enumeration and combination."""
    texts = list(map("".join, product(LEADS, MARKERS, ("", " "), SYMBOLS, ENDS)))
    for number, text in enumerate(texts[::11]):
        options = OPTION_LISTS[number % len(OPTION_LISTS)]
        for ended in (True, False):
            yield parse_answer(text, options, WORDS, ended=ended)
        yield answer_start(text, WORDS), is_complete(text, WORDS)
    ten = tuple(f"option {letter}" for letter in "qrstuvwxyz")
    for name, letters in ENUMERATIONS.items():
        for letter in letters.split():
            yield name, [parse_answer(f"{lead}{letter}", ten) for lead in ("", "Answer: ")]


def parsed_by_label() -> Iterator[object]:
    """What the parser makes of many texts where prompts show digits or native letters."""
    texts = list(
        map("".join, product(LEADS, MARKERS, ("", " "), (*SYMBOLS, "2 dogs", "2, 3"), ENDS))
    )
    for code, labels in (("digits", tuple(DIGITS)), *native_labels().items()):
        for number, text in enumerate(texts[len(code) :: 449]):
            options = OPTION_LISTS[number % len(OPTION_LISTS)]
            yield parse_answer(text, options, WORDS, labels=labels)
            yield answer_start(text, WORDS, labels=labels), is_complete(text, WORDS, labels=labels)
        yield code, [parse_answer(label, CITIES, labels=labels) for label in labels]


def rendered_with_labels() -> Iterator[object]:
    """Prompts with digits and native letters, and all native labels."""
    item = Item("i", "p", "heb_Hebr", "Some text.", "Which one?", ("one", "two", "three"), 2)
    for format, labels in product((Format.LETTER, Format.GENERATE), Labels):
        protocol = Protocol(format, labels=labels)
        context = reasoning_prompt(item, protocol)
        yield prompt(item, protocol), context, after_reasoning(item, protocol, context, "So.")
    yield list(native_labels().items()), wording("eng_Latn").reason_digit


def rendered() -> Iterator[object]:
    """Every kind of prompt, in English and in another language, plain and as a chat."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"a": 0}, "a")), chat_template=QWEN_3
    )
    item = Item("i", "p", "heb_Hebr", " Some text.\n", "Which one? ", ("one ", "two", "three"), 2)
    topic = Item("t", "t", "heb_Hebr", "", QUESTION, TOPICS, 1)
    for format, language, reasoning, chat in product(
        Format, PromptLanguage, Reasoning, (False, True)
    ):
        protocol = Protocol(format, prompt_language=language, reasoning=reasoning, chat=chat)
        for shown in as_shown((item, topic), language, None, own_texts=True):
            context = reasoning_prompt(shown, protocol, tokenizer)
            yield prompt(shown, protocol, tokenizer)
            yield context
            yield after_reasoning(shown, protocol, context, " So. ")
            yield unconditional_prompt(shown, protocol, tokenizer)
            yield answer_words(shown.language, protocol)
    for shown in as_shown((item, topic), PromptLanguage.TARGET, 15, own_texts=True):
        yield shown.question, shown.options, shown.answer
    for code in languages():
        yield wording(code).model_dump(exclude={"reason_digit"})


def rendered_tasks() -> Iterator[object]:
    """Prompts of items as the tasks make them, in every format."""
    items = (
        Item("anatomy/test/0", "anatomy/test/0", "swh_Latn", "", " Swali? ", ("a", "b ", "c", "d"), 3),
        Item("7", "7", "fra_Latn", "", "Comment faire ?", ("un", "deux", "trois", "quatre"), 0),
        Item("eng_Latn/7", "eng_Latn/7", "eng_Latn", "", "To dry a shirt", ("hang it", "eat it"), 0),
        Item("test/1", "test/premise 1", "yor_Latn", "Ó sùn.", f"Ó jí. {NLI_QUESTION}", NLI_OPTIONS, 2),
    )  # fmt: skip
    for format, reasoning, labels in product(Format, Reasoning, Labels):
        if format == Format.CLOZE and labels != Labels.LETTERS:
            continue
        protocol = Protocol(format, reasoning=reasoning, labels=labels)
        for shown in as_shown(items, PromptLanguage.ENGLISH, None, own_texts=True):
            context = reasoning_prompt(shown, protocol)
            yield prompt(shown, protocol), context, after_reasoning(shown, protocol, context, "So.")
            yield unconditional_prompt(shown, protocol)


def pattern_constants() -> Iterator[tuple[str, object]]:
    """Every constant of the answer patterns; a regular expression as its pattern and flags."""
    for name, value in sorted(vars(answer_patterns).items()):
        if isinstance(value, re.Pattern):
            yield name, (value.pattern, value.flags)
        elif name.isupper():
            yield name, value


PARSED = ("6", "4c8816f1de3a110f")
PATTERNS = ("6", "3498d62a36edbf31")
RENDERED = ("3", "d5c2e90dcb077d72")
PARSED_BY_LABEL = ("6", "0ad961d89ddc0bb0")
RENDERED_TASKS = ("3", "8e73e8e262549088")
RENDERED_WITH_LABELS = ("3", "249f58b0cb694c5a")


def test_a_rule_of_the_parser_does_not_change_without_parser_version() -> None:
    assert (PARSER_VERSION, sha256(parsed())) == PARSED, "raise PARSER_VERSION, then update PARSED"


def test_a_rule_about_labels_does_not_change_without_parser_version() -> None:
    assert (PARSER_VERSION, sha256(parsed_by_label())) == PARSED_BY_LABEL, (
        "raise PARSER_VERSION, then update PARSED_BY_LABEL"
    )


def test_a_prompt_with_other_labels_does_not_change_without_prompt_version() -> None:
    assert (PROMPT_VERSION, sha256(rendered_with_labels())) == RENDERED_WITH_LABELS, (
        "raise PROMPT_VERSION, then update RENDERED_WITH_LABELS"
    )


def test_a_pattern_of_the_parser_does_not_change_without_parser_version() -> None:
    assert (PARSER_VERSION, sha256(pattern_constants())) == PATTERNS, (
        "raise PARSER_VERSION, then update PATTERNS"
    )


def test_a_prompt_does_not_change_without_prompt_version() -> None:
    assert (PROMPT_VERSION, sha256(rendered())) == RENDERED, (
        "raise PROMPT_VERSION, then update RENDERED"
    )


def test_a_prompt_of_a_task_does_not_change_without_prompt_version() -> None:
    assert (PROMPT_VERSION, sha256(rendered_tasks())) == RENDERED_TASKS, (
        "raise PROMPT_VERSION, then update RENDERED_TASKS"
    )
