"""Chat templates: how one is used, found by rendering it, and the user's turn in it.

Templates differ in ways that change a measurement without an error: some want the content of a turn
as a list and leave out a string, some print today's date, and some open a block of reasoning in
which a direct answer would be a draft.
"""

import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache

import psutil
from jinja2 import Environment, TemplateError

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.prompts.reasoning_blocks import open_block

if sys.platform != "win32":
    import resource

# What templates print as today's date: that of Llama 3.1's template where it knows no other.
TEMPLATE_DATE = "2024-07-26"
_OTHER_DATE = "2031-11-15"
_DATES = {
    TEMPLATE_DATE: {"%Y": "2024", "%y": "24", "%m": "07", "%-m": "7", "%d": "26", "%-d": "26",
                    "%e": "26", "%j": "208", "%B": "July", "%b": "Jul", "%h": "Jul",
                    "%A": "Friday", "%a": "Fri", "%u": "5", "%w": "5"},
    _OTHER_DATE: {"%Y": "2031", "%y": "31", "%m": "11", "%-m": "11", "%d": "15", "%-d": "15",
                  "%e": "15", "%j": "319", "%B": "November", "%b": "Nov", "%h": "Nov",
                  "%A": "Saturday", "%a": "Sat", "%u": "6", "%w": "6"},
}  # fmt: skip
_MIDNIGHT = {"%H": "00", "%-H": "0", "%I": "12", "%-I": "12", "%M": "00", "%S": "00", "%p": "AM",
             "%f": "000000", "%Z": "", "%z": ""}  # fmt: skip
_COMPOSED = {"%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%x": "%m/%d/%y", "%T": "%H:%M:%S",
             "%X": "%H:%M:%S", "%R": "%H:%M", "%c": "%a %b %d %H:%M:%S %Y"}  # fmt: skip

_USER = 'P: "One" line\'s text.\nQ: Which <line>?\nAnswer:'
# A template may change spaces and line breaks, and nothing else: not write the text as JSON.
_SHOWN_USER = re.compile(r"\s+".join(map(re.escape, _USER.split())))
_ASSISTANT = "isogloss:answer"
_RENDERINGS = 12  # equal ones show that a template is not random

Switches = Mapping[str, bool | int | str]
# Qwen 3, SmolLM 3, GLM 4.5, Hunyuan and EXAONE have `enable_thinking`, DeepSeek 3.1, Granite and
# Kimi `thinking`, Cohere `reasoning`, Seed-OSS `thinking_budget`, Mistral `reasoning_effort`.
# Templates ignore the names that they do not know.
_OFF: tuple[Switches, ...] = (
    {"enable_thinking": False, "thinking": False, "reasoning": False, "thinking_budget": 0},
    {"enable_thinking": False},
    {"enable_thinking": False, "thinking": False, "reasoning_effort": "none"},
)
_ON: tuple[Switches, ...] = (
    {"enable_thinking": True, "thinking": True, "reasoning": True},
    {"enable_thinking": True},
)
# A template is a program: these are what it raises, and what transformers raises about it.
_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError,
             TimeoutError, TypeError, ValueError)  # fmt: skip
AGAIN = 0.1  # seconds between alarms, after the first
_SECONDS = 10  # for one rendering, which takes a millisecond
_BYTES = 2_000_000_000  # of memory that one rendering may take
_LONGEST = 1_000_000  # characters that a template may add to a text


@dataclass(frozen=True)
class ChatFormat:
    """How a chat template is used.

    `suffix` follows the template's own generation prompt: it ends a block of reasoning, or begins
    the answer as the template does in an assistant's turn. `opened` is what prompts end in, from
    the end of the user's text. `date` is the date that the template prints, None if it prints none.
    """

    template: str
    switches: Switches
    content_as_list: bool
    suffix: str
    opened: str
    date: str | None


def chat_format(tokenizer: Tokenizer, thinking: bool) -> ChatFormat:
    """Return how the tokenizer's chat template is used, for answers with or without reasoning.

    Raises ModelError if it cannot be used.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        named = tokenizer.chat_template
        if isinstance(named, dict):
            raise ModelError(
                f"the tokenizer has chat templates named {', '.join(map(repr, sorted(named)))} and "
                "none named 'default'; set chat=off to use no template."
            ) from error
        raise ModelError("the tokenizer has no chat template; set chat=off.") from error
    return _format(tokenizer, template, thinking)


def render_chat(tokenizer: Tokenizer, text: str, thinking: bool, item: str) -> str:
    """Return a text as the user's turn, up to where the answer or the reasoning begins.

    `item` names the item in an error. Raises ModelError if the template leaves out a part of the
    text, or cannot be used.
    """
    form = chat_format(tokenizer, thinking)
    turns = [_turn("user", text, form.content_as_list)]
    rendered = _render(tokenizer, dated(form.template), turns, form.switches)
    if text.strip() not in rendered and " ".join(text.split()) not in " ".join(rendered.split()):
        raise ModelError(
            f"the chat template changes or leaves out a part of the prompt of {item}; set chat=off "
            "to use no template."
        )
    return f"{rendered}{form.suffix}"


def render_turns(tokenizer: Tokenizer, user: str, assistant: str) -> tuple[str, str]:
    """Return the user's turn with the generation prompt, and both turns, as trainers render them.

    Without switches and with today's date. Raises ModelError if the template cannot be rendered.
    """
    template = chat_format(tokenizer, thinking=False).template
    turns = [_turn("user", user, False), _turn("assistant", assistant, False)]
    return (
        _render(tokenizer, template, turns[:1], {}),
        _render(tokenizer, template, turns, {}, generation=False),
    )


def dated(template: str, date: str = TEMPLATE_DATE) -> str:
    """Return a template in which today is `date` at midnight, as a macro before it.

    A macro needs no private interface of transformers, which passes no functions to templates.
    """
    if "strftime_now" not in template:
        return template
    expression = "format"
    for directives in (_COMPOSED, _DATES[date], _MIDNIGHT):
        for directive, value in directives.items():
            expression += f'|replace("{directive}","{value}")'
    # The line break is trimmed with the tag, and lets the template begin a line.
    return f"{{% macro strftime_now(format) %}}{{{{ {expression} }}}}{{% endmacro %}}\n{template}"


@lru_cache(maxsize=8)
def _format(tokenizer: Tokenizer, template: str, thinking: bool) -> ChatFormat:
    """Try the switches, the first that render and leave no block of reasoning open."""
    if _has_power(template):
        raise ModelError(
            "the chat template has a power (**), which may take for ever to compute; set chat=off "
            "to use no template."
        )
    chosen: tuple[Switches, bool, str] | None = None
    reason: ModelError | None = None
    for switches in _ON if thinking else _OFF:
        try:
            as_list = _content_as_list(tokenizer, dated(template), switches)
        except ModelError as error:
            reason = reason or error
            continue
        rendered = _user_turn(tokenizer, dated(template), switches, as_list)
        tail = _after_user(rendered)
        if chosen is None or not open_block(tail):
            chosen = switches, as_list, rendered
        if thinking or not open_block(tail):
            break
    if chosen is None:
        raise reason or ModelError("the chat template cannot be rendered.")
    switches, as_list, rendered = chosen
    for _ in range(_RENDERINGS):
        if _user_turn(tokenizer, dated(template), switches, as_list) != rendered:
            raise ModelError(
                "the chat template renders the same turn differently each time; set chat=off "
                "to use no template."
            )
    tail = _after_user(rendered)
    suffix = _suffix(tokenizer, dated(template), switches, as_list, tail, thinking)
    other = _user_turn(tokenizer, dated(template, _OTHER_DATE), switches, as_list)
    date = None if other == rendered else TEMPLATE_DATE
    return ChatFormat(template, switches, as_list, suffix, f"{tail}{suffix}", date)


def _content_as_list(tokenizer: Tokenizer, template: str, switches: Switches) -> bool:
    """Whether the template shows the user's text if the content is a list, not a string.

    Prefers the form in which the text appears once. Raises ModelError if it appears in neither.
    """
    counts: dict[bool, int] = {}
    reason: ModelError | None = None
    for as_list in (False, True):
        try:
            rendered = _user_turn(tokenizer, template, switches, as_list)
            counts[as_list] = len(_SHOWN_USER.findall(rendered))
        except ModelError as error:
            reason = reason or error
    for as_list, count in sorted(counts.items(), key=lambda pair: (pair[1] != 1, pair[0])):
        if count:
            return as_list
    if not counts and reason:
        raise reason
    raise ModelError(
        "the chat template leaves out or changes the user's text; set chat=off to use no template."
    )


def _suffix(
    tokenizer: Tokenizer,
    template: str,
    switches: Switches,
    as_list: bool,
    tail: str,
    thinking: bool,
) -> str:
    """Return what the generation prompt lacks; `tail` is what follows the user's text.

    The template's own assistant's turn shows how an answer begins, such as in the channel `final`
    of gpt-oss, or after an empty block. Otherwise an open block is ended as its form has it.
    Raises ModelError for a block that cannot be ended.
    """
    user, assistant = _turn("user", _USER, as_list), _turn("assistant", _ASSISTANT, as_list)
    suffix = ""
    try:
        bare = _render(tokenizer, template, [user], switches, generation=False)
        turns = _render(tokenizer, template, [user, assistant], switches, generation=False)
    except ModelError:  # a template for one turn, or without an assistant's turn
        bare = turns = ""
    header, found, _ = _after_user(turns).partition(_ASSISTANT)
    has_prompt = _after_user(bare) != tail
    if found and header.startswith(tail) and not (thinking and has_prompt):
        suffix = header[len(tail) :] if header[len(tail) :].strip() else ""
    block = None if thinking else open_block(f"{tail}{suffix}")
    if block is None:
        return suffix
    if block.ending is None:
        raise ModelError(
            f"the chat template opens a block of reasoning ({block.opening!r}) that has no known "
            "end, so that a direct answer would be a part of it; set chat=off to use no template."
        )
    return f"{suffix}{block.ending}"


def _after_user(rendered: str) -> str:
    """Return what follows the user's text, "" if a rendering does not have it."""
    ends = [match.end() for match in _SHOWN_USER.finditer(rendered)]
    return rendered[ends[-1] :] if ends else ""


def _user_turn(tokenizer: Tokenizer, template: str, switches: Switches, as_list: bool) -> str:
    return _render(tokenizer, template, [_turn("user", _USER, as_list)], switches)


def _turn(role: str, text: str, as_list: bool) -> dict[str, object]:
    return {"role": role, "content": [{"type": "text", "text": text}] if as_list else text}


def _has_power(template: str) -> bool:
    """Whether a template computes a power: Python answers no alarm before it is computed."""
    before = ""
    try:
        for _, kind, text in Environment().lex(template):
            if text == "**" and before not in ("(", ","):  # else named arguments
                return True
            before = before if kind == "whitespace" else text
    except TemplateError:  # which rendering will say
        pass
    return False


@contextmanager
def _memory_limit(n_bytes: int) -> Iterator[None]:
    """Raise MemoryError in the context if it needs that much more memory (not on Windows)."""
    if sys.platform == "win32":
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + n_bytes
    with suppress(OSError, ValueError):
        if limits[0] == resource.RLIM_INFINITY or limits[0] > most:
            resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the context after that time.

    Without effect outside the main thread, which alone receives signals, and where another alarm
    is set.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"it takes more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: Python ignores an exception in a destructor, where the first may come.
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _render(
    tokenizer: Tokenizer,
    template: str,
    turns: Sequence[dict[str, object]],
    switches: Switches,
    *,
    generation: bool = True,
) -> str:
    try:
        with _time_limit(_SECONDS), _memory_limit(_BYTES):
            rendered = tokenizer.apply_chat_template(
                list(turns),
                chat_template=template,
                tokenize=False,
                add_generation_prompt=generation,
                **switches,
            )
        if len(rendered) > _LONGEST + 10 * len(str(turns)):
            raise ValueError(f"it makes {len(rendered):,} characters of {len(str(turns)):,}")
        return rendered
    except _FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the chat template cannot be rendered ({reason}); set chat=off to use no template."
        ) from error
