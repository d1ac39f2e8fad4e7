"""Reasoning blocks: parts of a text in which a model thinks, and where its answer begins.

Models mark their reasoning with tags, such as <think> and </think>, or write it to a channel of its
own. What such a block says is a draft, not an answer. Blocks are recognised by their form, not by
the name of a model.
"""

import re
from typing import NamedTuple

_NAME = r"(?:\w+:)?(?:think|thinking|thought|thoughts|reason|reasoning|analysis|reflection)"
_UPPER = r"(?:THINK|THINKING|THOUGHT|REASON|REASONING)"


class _Form(NamedTuple):
    """A way to mark a block: its opening, what ends it, and how to end it; `name` is a group."""

    opening: str
    closing: str
    ending: str


_FORMS = (
    _Form(rf"<(?P<name>{_NAME})>", rf"</{_NAME}>", "</{name}>"),
    _Form(rf"\[(?P<name>{_UPPER})\]", rf"\[/{_UPPER}\]", "[/{name}]"),
    _Form(rf"◁(?P<name>{_NAME})▷", rf"◁/{_NAME}▷", "◁/{name}▷"),
    _Form(rf"<\|START_(?P<name>{_UPPER})\|>", rf"<\|END_{_UPPER}\|>", "<|END_{name}|>"),
    _Form(rf"<\|begin_of_(?P<name>{_NAME})\|>", rf"<\|end_of_{_NAME}\|>", "<|end_of_{name}|>"),
    _Form(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", "<|inner_suffix|>"),
    _Form(r"<\|channel>thought", r"<channel\|>", "<channel|>"),
    _Form(r"<unused94>thought", r"<unused95>", "<unused95>"),
    # Every channel but `final`, to which the model changes with a new message.
    _Form(
        r"<\|channel\|>(?!final)\w*",
        r"<\|channel\|>final[^<]*<\|message\|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
)
_OPENINGS = tuple(re.compile(form.opening) for form in _FORMS)
_CLOSINGS = tuple(re.compile(form.closing) for form in _FORMS)
# Any other tag about thinking at the end of a prompt, unless it ends something or says "no".
_UNKNOWN = re.compile(
    r"(?:[<◁](?i:(?![^\s>▷]*(?:/|end|no_?think))[^<>◁▷\s]*(?:think|thought|reason)[^<>◁▷\s]*)[>▷]"
    r"|\[[A-Z_]*(?:THINK|THOUGHT|REASON)[A-Z_]*\])\s*\Z"
)
_TOKENS_OF_MARKERS = ("<|channel>", "<unused94>")
_TOKENS_AROUND_CHANNELS = ("<|message|>", "<|start|>", "<|end|>")


class OpenBlock(NamedTuple):
    """A block that a text ends in, and the text that ends the block; None if that is unknown."""

    opening: str
    ending: str | None


def open_block(text: str) -> OpenBlock | None:
    """Return the reasoning block that a text ends in, None if it ends in none."""
    last: tuple[int, OpenBlock] | None = None
    for form, opening, closing in zip(_FORMS, _OPENINGS, _CLOSINGS, strict=True):
        matches = list(opening.finditer(text))
        if not matches or closing.search(text, matches[-1].end()):
            continue
        match = matches[-1]
        ending, body = form.ending.format(**match.groupdict()), text[match.end() :]
        if body.startswith("\n"):  # an empty block has an empty line, as Qwen 3 writes it
            ending = f"{ending}\n\n" if body.strip() and body[-1] == "\n" else f"\n{ending}\n\n"
        if last is None or match.start() > last[0]:
            last = match.start(), OpenBlock(match[0], ending)
    if last is not None:
        return last[1]
    unknown = _UNKNOWN.search(text)
    return OpenBlock(unknown[0].strip(), None) if unknown else None


def answer_part(text: str, opened: str = "") -> int | None:
    """Return where the answer of a generated text begins, after the last reasoning block.

    `opened` is the end of the prompt, which may have opened a block. None if the text ends inside
    a block; 0 if it has none.
    """
    whole = f"{opened}{text}"
    if open_block(whole):
        return None
    ends = [match.end() for closing in _CLOSINGS for match in closing.finditer(whole)]
    return max(max(ends, default=0) - len(opened), 0)


def marks_reasoning(token: str, tokens: frozenset[str]) -> bool:
    """Whether a special token out of `tokens` marks a reasoning block and must stay in a text."""
    if token in _TOKENS_AROUND_CHANNELS:
        return "<|channel|>" in tokens
    patterns = (*_OPENINGS, *_CLOSINGS)
    return token in _TOKENS_OF_MARKERS or any(pattern.fullmatch(token) for pattern in patterns)
