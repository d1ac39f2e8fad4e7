"""HTTP client of a server: attempts with backoff, a limit of requests at a time, and accounting.

httpx2 carries the requests: it is a dependency already, has timeouts and pools of connections, and
reads any endpoint, whereas the SDK of OpenAI knows those of OpenAI alone (no `/generate`, no
`token_ids_logprob`) and counts no repetitions. What is here is the policy of repetition:

- what may change is repeated: connections refused, cut or silent for `timeout` seconds, statuses
  408, 409, 425, 429 and 5xx, and answers that are not what such a server answers;
- what cannot change is not: other statuses;
- pauses grow exponentially with full jitter (Brooker 2015, "Exponential Backoff And Jitter", AWS
  Architecture Blog), and all requests wait as long as a `Retry-After` says.
"""

import asyncio
import email.utils
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2

from isogloss.config.engine import Engine
from isogloss.servers import address
from isogloss.servers.types import Usage
from isogloss.servers.wire import Call, excerpt

T = TypeVar("T")
logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.5  # seconds, at most; doubled with each attempt
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 600.0  # a server that says more is asked again after that
CONNECT_TIMEOUT = 10.0
SECONDS_PER_LINE = 30.0  # between lines that say that requests are repeated
REPEATED = frozenset({408, 409, 425, 429})
NEVER = frozenset({501, 505})  # of 5xx
FOR_ALL = frozenset({401, 403, 404, 405})  # whatever is asked


class RefusedError(Exception):
    """An answer that does not change when the request is repeated."""

    def __init__(self, reason: str, status: int):
        super().__init__(reason)
        self.status = status

    @property
    def for_all(self) -> bool:
        """Whether every other request would get it too."""
        return self.status in FOR_ALL


class NoAnswerError(Exception):
    """No usable answer in any of the attempts; the reason is that of the last one.

    `unreachable` says that in the last one there was not even a connection.
    """

    def __init__(self, reason: str, unreachable: bool = False):
        super().__init__(reason)
        self.unreachable = unreachable


class _AttemptError(Exception):
    """An attempt that failed; `pause` is what Retry-After says, in seconds."""

    def __init__(self, reason: str, pause: float | None = None):
        super().__init__(reason)
        self.pause = pause


@dataclass
class Counts:
    """What has been asked and answered so far."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def usage(self) -> Usage:
        """Return the counts as they are now."""
        return Usage(self.requests, self.retries, self.prompt_tokens, self.generated_tokens)


class Client:
    """Asks one server; `opened` makes one."""

    def __init__(
        self, engine: Engine, http: httpx2.AsyncClient, counts: Counts, secret: str | None
    ):
        self._engine, self._http, self._counts, self._secret = engine, http, counts, secret
        self._free = asyncio.Semaphore(engine.concurrency)
        self._not_before = 0.0
        self._next_line = 0.0
        self._random = random.Random()  # the state of the common generator stays as it is

    async def ask(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Return what `read` makes of the answer. Raises RefusedError or NoAnswerError.

        `read` raises ValueError for an answer to be asked for again.
        """
        last = self._engine.retries
        unreachable = False
        for attempt in range(last + 1):
            async with self._free:
                await self._wait()
                self._counts.requests += 1
                self._counts.retries += attempt > 0
                unreachable = False
                try:
                    async with asyncio.timeout(self._engine.timeout):
                        return await self._attempt(call, read)
                except TimeoutError:
                    reason, pause = f"no answer in {self._engine.timeout:g} s", None
                except httpx2.TransportError as error:
                    reason, pause = _connection_problem(error), None
                    unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                except _AttemptError as error:
                    reason, pause = str(error), error.pause
            if pause is not None:
                self._not_before = max(self._not_before, time.monotonic() + pause)
            if attempt < last:
                self._say_repeated(reason, attempt + 2)
                longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
                await asyncio.sleep(self._random.uniform(0, longest))
        attempts = "attempt" if last == 0 else "attempts"
        raise NoAnswerError(
            f"{address.without_key(reason, self._secret)} ({last + 1} {attempts})", unreachable
        )

    def _say_repeated(self, reason: str, attempt: int) -> None:
        """Log why a request is repeated: a server that is slow or down is silent for minutes."""
        if (now := time.monotonic()) >= self._next_line:
            self._next_line = now + SECONDS_PER_LINE
            logger.info(
                "asking the server again (attempt %d of %d): %s",
                attempt, self._engine.retries + 1, address.without_key(reason, self._secret),
            )  # fmt: skip

    async def _wait(self) -> None:
        """Wait until the moment that a server has named."""
        while (pause := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(pause)

    async def _attempt(self, call: Call, read: Callable[[bytes], T]) -> T:
        if call.body is None:
            response = await self._http.get(call.path)
        else:
            response = await self._http.post(call.path, json=call.body)
        status = response.status_code
        if status != httpx2.codes.OK:
            reason = f"status {status}"
            if status in (401, 403):  # what a server says of a key may repeat it
                has = "has no key" if self._secret is None else "has a key that it does not accept"
                reason = f"{reason}: the environment variable {self._engine.key} {has}"
            elif said := excerpt(response.content):
                reason = f"{reason}: {said}"
            if status in REPEATED or (status >= 500 and status not in NEVER):
                raise _AttemptError(reason, _retry_after(response))
            raise RefusedError(address.without_key(reason, self._secret), status)
        try:
            return read(response.content)
        except ValueError as error:
            raise _AttemptError(f"an unusable answer ({_first_line(error)})") from error


@asynccontextmanager
async def opened(engine: Engine, counts: Counts) -> AsyncIterator[Client]:
    """Open connections to the engine's server, as many as there are requests at a time."""
    secret = address.key(engine)
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    most = engine.concurrency
    async with httpx2.AsyncClient(
        base_url=address.root(engine.base_url or ""),
        headers=headers,
        timeout=httpx2.Timeout(None, connect=min(CONNECT_TIMEOUT, engine.timeout)),
        limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
    ) as http:
        yield Client(engine, http, counts, secret)


def _connection_problem(error: httpx2.TransportError) -> str:
    """Say what happened to a connection; some exceptions have no text."""
    said = _first_line(error)
    name = type(error).__name__
    return f"{name}: {said}" if said else name


def _first_line(error: BaseException) -> str:
    """Return an error on one line: pydantic puts the reason on the third."""
    return " ".join(str(error).split())[:200]


def _retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds that Retry-After asks to wait, given as such or as a date; else None."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    # NaN is not above 0.
    return min(seconds, LONGEST_RETRY_AFTER) if seconds > 0 else 0.0
