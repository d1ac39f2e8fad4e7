"""Facts that take seconds to find, kept in the cache by all that they depend on."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from isogloss.files import cache_dir, keep

T = TypeVar("T")
DAY = 24 * 3600


def kept_fact(
    kind: str,
    depends_on: Mapping[str, object],
    form: TypeAdapter[T],
    find: Callable[[], T],
    days: float | None = None,
) -> T:
    """What `find` returns, or what it returned when all that the fact depends on was the same.

    `depends_on` is JSON; a fact with `days` is found again after so many. A file that cannot be
    read, or written, costs no more than finding the fact again.
    """
    text = json.dumps(depends_on, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = cache_dir() / f"{kind}-{digest}.json"
    with suppress(OSError, ValidationError):
        if days is None or time.time() - path.stat().st_mtime < days * DAY:
            return form.validate_json(path.read_bytes())
    fact = find()
    keep(path, form.dump_json(fact))
    return fact


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions of packages, which are not imported."""
    return {package: version(package) for package in packages}
