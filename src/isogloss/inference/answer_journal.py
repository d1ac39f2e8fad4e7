"""A journal of the answers of an inference server: one line per answer, as they arrive.

A process that is killed loses no answer that has arrived, and the next one asks for the others.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from isogloss.files import keep_to_owner
from isogloss.servers.types import Scores, ServedText, Usage

logger = logging.getLogger(__name__)


class Entry(BaseModel):
    """A line: what was asked, as a digest, about which item, and the answer, or why there is none.

    The counts are those since the line before.
    """

    model_config = ConfigDict(frozen=True)

    asked: str
    item: str
    scores: Scores | None = None
    text: ServedText | None = None
    failure: str | None = None
    requests: int
    retries: int
    prompt_tokens: int
    generated_tokens: int


class Journal:
    """The journal in a file of JSON lines, to which answers are added."""

    def __init__(self, path: Path):
        self.path = path
        self.answers = {entry.asked: entry for entry in entries(path) if entry.failure is None}
        _cut_torn_line(path)

    def add(self, entry: Entry) -> None:
        """Write an answer at the end of the file, in one piece, and remember it."""
        line = entry.model_dump_json(exclude_defaults=True) + "\n"
        with self.path.open("ab", buffering=0) as stream:
            keep_to_owner(self.path)
            stream.write(line.encode())
        if entry.failure is None:
            self.answers[entry.asked] = entry


def entries(path: Path) -> Iterator[Entry]:
    """The lines of a journal; none without a file, and without a line that is not whole."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            yield Entry.model_validate_json(line)
        except ValidationError:
            logger.warning(f"{path}: a line that is not whole is left out")


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without its end, so that the next one begins on a line of its own."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def digest_of(*asked: object) -> str:
    """A digest of what is asked, as JSON."""
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def usage_of(paths: Iterable[Path]) -> Usage:
    """The counts of all lines of journals."""
    rows = [entry for path in paths for entry in entries(path)]
    return Usage(
        requests=sum(row.requests for row in rows),
        retries=sum(row.retries for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        generated_tokens=sum(row.generated_tokens for row in rows),
    )
