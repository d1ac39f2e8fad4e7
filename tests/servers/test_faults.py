"""Every item is answered once, whatever happens between client and server."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sglang_server
from fault_proxy import RETRY_AFTER, Fault, fault_proxy

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers import client
from isogloss.servers.opening import found_kind, open_server
from isogloss.servers.server import Server
from isogloss.servers.types import Failure, Scores
from isogloss.types import EngineKind

N_ITEMS = 24
START = 5


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.05)


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with sglang_server.sglang_server() as url:
        yield url


def items(n: int = N_ITEMS) -> tuple[list[EncodedPrompt], list[Prompt]]:
    prompt = Prompt("context", (" A", " B", " C"))
    contexts = [(2, item, item + 1, 7, 8) for item in range(n)]
    sequences = [tuple((*context, label) for label in (10, 11, 12)) for context in contexts]
    return [EncodedPrompt(entry, (START,) * 3) for entry in sequences], [prompt] * n


def expected(entry: EncodedPrompt) -> list[float]:
    values = sglang_server.logprobs(entry.sequences[0][:START])
    return [values[sequence[START]] for sequence in entry.sequences]


@pytest.fixture
def another_trade(tmp_path: Path) -> Iterator[str]:
    """The address of a server that serves an empty folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def opened(url: str, **settings: float) -> Server:
    engine = Engine(kind=EngineKind.SGLANG, base_url=url, **{"concurrency": 4, **settings})
    return open_server(engine)


def scored_once(server: Server, n: int = N_ITEMS) -> None:
    """Score items; assert that each comes once, with the values of the toy model."""
    encoded, prompts = items(n)
    results = list(server.score(encoded, prompts, labels=True))
    assert sorted(index for index, _ in results) == list(range(n))
    for index, scores in results:
        assert isinstance(scores, Scores)
        assert list(scores.loglikelihoods) == pytest.approx(expected(encoded[index]))


def test_one_line_says_that_requests_are_repeated(
    upstream: str, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = [None] * 3 + [Fault.ERROR, None] * N_ITEMS
    with fault_proxy(upstream, schedule) as proxy, caplog.at_level("INFO", client.__name__):
        server = opened(proxy.url, retries=N_ITEMS, concurrency=1)
        assert caplog.messages == []
        scored_once(server)
        assert proxy.injected[Fault.ERROR] == N_ITEMS
    (line,) = caplog.messages  # the first; others would come 30 seconds later
    assert line.startswith(f"asking the server again (attempt 2 of {N_ITEMS + 1}): status 500")


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault != Fault.SLOW])
def test_no_item_is_lost_with_a_fault(upstream: str, fault: Fault):
    # Three requests open the server; then every second request fails.
    schedule = [None] * 3 + [fault, None] * N_ITEMS
    with fault_proxy(upstream, schedule) as proxy:
        # Requests in flight take turns by chance: one item may meet many of the faults in a row.
        server = opened(proxy.url, retries=N_ITEMS)
        scored_once(server)
        assert proxy.injected[fault] >= N_ITEMS / 2
        assert server.usage.retries == proxy.injected[fault]
        assert server.usage.requests == N_ITEMS + 3 + proxy.injected[fault]


def test_no_item_is_lost_with_slow_answers(upstream: str):
    with fault_proxy(upstream, [None] * 3 + [Fault.SLOW, None] * 3) as proxy:
        server = opened(proxy.url, timeout=0.7)
        scored_once(server, 8)
        assert server.usage.retries >= 3


def test_no_item_is_lost_with_all_faults_mixed_and_a_restart(upstream: str):
    generator = random.Random(0)
    faults = [fault for fault in Fault if fault != Fault.SLOW]
    schedule = [generator.choice([*faults, *[None] * len(faults)]) for _ in range(3 * N_ITEMS)]
    with fault_proxy(upstream, [None] * 3 + schedule) as proxy:
        server = opened(proxy.url, retries=50)

        def restart() -> None:
            proxy.upstream = "http://127.0.0.1:9"  # nothing listens there
            time.sleep(0.2)
            proxy.upstream = upstream

        timer = threading.Timer(0.1, restart)
        timer.start()
        scored_once(server)
        timer.join()
        assert len(proxy.injected) == len(faults)


def test_retry_after_is_waited_for_by_all_requests(upstream: str):
    with fault_proxy(upstream, [None] * 3 + [Fault.TOO_MANY]) as proxy:
        server = opened(proxy.url, concurrency=1)
        scored_once(server, 3)
        refused, *later = proxy.arrivals[3:]
        assert later[0] - refused >= RETRY_AFTER


def test_a_failure_is_one_line_per_item_after_bounded_attempts(upstream: str):
    # Two requests at a time, each tried three times: the first two items fail, the others do not.
    with fault_proxy(upstream, [None] * 3 + [Fault.ERROR] * 6) as proxy:
        server = opened(proxy.url, concurrency=2, retries=2)
        results = dict(server.score(*items(6), labels=True))
        failures = [result for result in results.values() if isinstance(result, Failure)]
        assert failures == [Failure("status 500: Internal Server Error (3 attempts)")] * 2
        assert sum(isinstance(result, Scores) for result in results.values()) == 4


def test_a_server_that_is_gone_ends_the_run_and_keeps_what_came(upstream: str):
    with fault_proxy(upstream) as proxy:
        server = opened(proxy.url, concurrency=1, retries=1)
        iterator = server.score(*items(), labels=True)
        results = [next(iterator) for _ in range(5)]
        assert all(isinstance(scores, Scores) for _, scores in results)
        proxy.upstream = "http://127.0.0.1:9"
        with pytest.raises(ModelError, match=r"has given no answer to 3 items in a row.*Error"):
            list(iterator)
        assert len(proxy.arrivals) < N_ITEMS


def test_what_cannot_change_is_not_repeated(upstream: str):
    too_long = EncodedPrompt(tuple((2, *[3] * 250, label) for label in (10, 11)), (251, 251))
    with fault_proxy(upstream) as proxy:
        server = opened(proxy.url)
        encoded, prompts = items(2)
        labels = Prompt("long", (" A", " B"))
        results = dict(server.score([*encoded, too_long], [*prompts, labels], labels=True))
        assert results[2] == Failure("status 400: The input (251 tokens) is longer than 200.")
        assert isinstance(results[0], Scores)
        assert server.usage.retries == 0


def test_closing_the_iterator_cancels_what_is_not_answered(upstream: str):
    with fault_proxy(upstream) as proxy:
        server = opened(proxy.url, concurrency=1)
        results = server.score(*items(200), labels=True)
        next(results)
        results.close()
        time.sleep(0.3)  # one request may have been on its way
        sent = len(proxy.arrivals)
        assert sent < 150
        time.sleep(0.3)
        assert len(proxy.arrivals) == sent
        assert not [thread for thread in threading.enumerate() if thread.name == "isogloss-server"]


@pytest.mark.parametrize("ask", [found_kind, opened], ids=["unknown kind", "stated kind"])
def test_an_address_without_a_server_is_named_as_such_soon(ask: Callable[[str], object]):
    with pytest.raises(
        ModelError,
        match=r"^no server answers at http://127\.0\.0\.1:9/v1: Connect.*\(3 attempts\); expected "
        r"the address of a server that runs\.$",
    ):
        ask("http://127.0.0.1:9/v1")


def test_a_server_of_another_trade_is_none_of_the_kinds(another_trade: str):
    with pytest.raises(
        ModelError,
        match=r"does not answer as any of llama_cpp, sglang, vllm, openai does, at last with "
        r"status 404.*up to and including /v1\.$",
    ):
        found_kind(another_trade)
