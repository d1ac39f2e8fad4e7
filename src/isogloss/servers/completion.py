"""Jobs on a server, in an event loop of their own thread; results come in order of completion.

The thread leaves the caller free: it may itself run in an event loop, as in a notebook, and stores
a result while others are computed. Closing the iterator cancels what has not been answered.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.servers.client import Client, Counts, NoAnswerError, RefusedError, opened
from isogloss.servers.types import Failure

T = TypeVar("T")

Job = Callable[[Client], Awaitable[T]]


class _Ended(NamedTuple):
    """All jobs are done, or `error` has ended them."""

    error: BaseException | None


def completed(
    client: AbstractAsyncContextManager[Client],
    jobs: Sequence[Job[T]],
    at_a_time: int,
    server: str,
) -> Iterator[tuple[int, T | Failure]]:
    """Do jobs, `at_a_time`, and yield each one's index and result, or why it has none.

    Raises ModelError, naming the `server`, when it refuses what it would refuse to all jobs, or
    when as many jobs in a row as are done at a time, and at least three, had no answer.
    """
    answers: SimpleQueue[tuple[int, T | Failure] | _Ended] = SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(_work(client, jobs, at_a_time, server, answers.put))

    def run() -> None:
        error = None
        try:
            loop.run_until_complete(task)
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as raised:  # to be raised in the caller's thread
            error = raised
        finally:
            loop.close()
            answers.put(_Ended(error))

    thread = threading.Thread(target=run, name="isogloss-server", daemon=True)
    thread.start()
    try:
        while True:
            answer = answers.get()
            if isinstance(answer, _Ended):
                if answer.error is not None:
                    raise _innermost(answer.error)
                return
            yield answer
    finally:
        if thread.is_alive():
            with suppress(RuntimeError):  # closed since
                loop.call_soon_threadsafe(task.cancel)
        thread.join()


def ask_once(engine: Engine, counts: Counts, job: Job[T]) -> T:
    """Do one job on the engine's server. Raises ModelError without an answer."""
    server = f"the server at {engine.base_url}"

    async def answered(client: Client) -> T | Failure:
        try:
            return await job(client)
        except RefusedError as error:
            return Failure(str(error))
        except NoAnswerError as error:
            if not error.unreachable:
                raise
            raise ModelError(
                f"no server answers at {engine.base_url}: {error}; expected the address of a "
                "server that runs."
            ) from error

    ((_, result),) = completed(opened(engine, counts), [answered], 1, server)
    if isinstance(result, Failure):
        raise ModelError(f"{server} does not answer as kind {engine.kind} does: {result.reason}.")
    return result


async def _work(
    client: AbstractAsyncContextManager[Client],
    jobs: Sequence[Job[T]],
    at_a_time: int,
    server: str,
    put: Callable[[tuple[int, T | Failure]], None],
) -> None:
    pending = iter(enumerate(jobs))
    unanswered = 0

    async def worker(asked: Client) -> None:
        nonlocal unanswered
        for index, job in pending:
            try:
                result: T | Failure = await job(asked)
                unanswered = 0
            except RefusedError as error:
                if error.for_all:
                    raise ModelError(f"{server} refuses what isogloss asks: {error}.") from error
                result = Failure(str(error))
                unanswered = 0
            except NoAnswerError as error:
                unanswered += 1
                result = Failure(str(error))
            put((index, result))
            if unanswered >= max(at_a_time, 3):
                reason = result.reason if isinstance(result, Failure) else ""
                raise ModelError(
                    f"{server} has given no answer to {unanswered} items in a row, the last time: "
                    f"{reason}."
                )

    async with client as asked, asyncio.TaskGroup() as group:
        for _ in range(min(at_a_time, len(jobs))):
            group.create_task(worker(asked))


def _innermost(error: BaseException) -> BaseException:
    """Return the first error of a group, which is how an asyncio.TaskGroup raises one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
