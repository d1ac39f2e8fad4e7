"""What fuzzers share: how many examples, bytes that are nearly right, and errors a user can read.

`make fuzz` sets ISOGLOSS_FUZZ: thousands of examples, drawn anew each time, where `make test-unit`
tries a few that are always the same.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from isogloss.cli.command import UserError
from isogloss.errors import IsoglossError

LONG = bool(os.environ.get("ISOGLOSS_FUZZ"))
LONGEST = 5000  # characters of a message
SECONDS = 5  # of the processor, for one attempt
LONGEST_WAIT = 60  # seconds, which a busy machine may take for it

NASTY = [
    "", " ", "\0", "\ud800", "\u202e", "\ufeff", "é", "a" * 5000, "9" * 400, "-1", "1e999", "nan",
    "null", "true", "[", "[[", "{", "{a: &a [*a]}", "!!python/name:os.system", "%s", "{0}", "{{ 1 }}",
    "../../x", "~nobody/x", "=1+1", "a,b", "a\nb", "it's", '"', "\\", "`", "<b>", "arb_Arab", "none",
    "auto", "all", "models:/", "models:/a@b@c", "runs:/", "http://", "http://[", "http://a:b/",
]  # fmt: skip
TEXT = st.one_of(st.sampled_from(NASTY), st.text(max_size=30))
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), TEXT
)  # fmt: skip
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def fuzzed(examples: int) -> settings:
    """Settings of a fuzzer: a third of so many examples, or forty times as many in `make fuzz`."""
    return settings(
        max_examples=examples * 40 if LONG else max(examples // 3, 3),
        derandomize=not LONG,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def readable(*others: type[Exception]) -> Iterator[None]:
    """Context in which any error is one that a user can read, or one of `others`, within seconds."""
    began, used = time.monotonic(), time.process_time()
    try:
        yield
    except others:
        pass
    except IsoglossError as error:
        message = UserError(str(error)).message
        assert message.strip(), "an error without a message"
        assert len(message) < LONGEST, f"a message of {len(message)} characters: {message[:300]}"
        assert "Traceback" not in message
    assert time.process_time() - used < SECONDS
    assert time.monotonic() - began < LONGEST_WAIT


def nearly(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes in which one part is cut, doubled, replaced or inserted."""
    places = st.integers(0, len(content))
    noise = st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\0" * 8, b"\xff" * 8, b"[" * 2000, b'"', b"\n", b"9" * 400, b"1e999"]),
    )

    def change(parts: tuple[int, int, bytes, str]) -> bytes:
        one, other, inserted, kind = parts
        start, end = min(one, other), max(one, other)
        match kind:
            case "cut":
                return content[:start]
            case "drop":
                return content[:start] + content[end:]
            case "double":
                return content[:end] + content[start:]
            case _:
                return content[:start] + inserted + content[start + len(inserted) :]

    kinds = st.sampled_from(["cut", "drop", "double", "replace", "replace"])
    return st.tuples(places, places, noise, kinds).map(change)


def with_changes(content: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping in which some entries have another value, are missing or are new."""
    keys = st.one_of(st.sampled_from(sorted(content)), TEXT)
    changes = st.dictionaries(keys, VALUE, min_size=1, max_size=3)
    gone = st.sets(st.sampled_from(sorted(content)), max_size=2)
    return st.tuples(changes, gone).map(
        lambda pair: {
            key: value for key, value in {**content, **pair[0]}.items() if key not in pair[1]
        }
    )


def as_json(content: object) -> bytes:
    """JSON as other programs write it, NaN and halves of characters included."""
    return json.dumps(content).encode()
