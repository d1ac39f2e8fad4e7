"""A proxy that stands between a client and a server and injects the faults of real networks.

Each request gets the next fault of the schedule; after its end, and for None, it is passed on.
"""

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

_direct = build_opener(ProxyHandler({}))


class Fault(StrEnum):
    """What happens to a request in place of, or on top of, the server's answer."""

    TOO_MANY = "429 with Retry-After"
    ERROR = "500"
    RESET = "connection reset before the answer"
    CUT = "connection cut in the middle of the answer"
    SLOW = "an answer later than the client waits"
    GARBAGE = "200 with something else"
    HALF = "200 with half a line"
    SHAPE = "200 with JSON of another shape"


RETRY_AFTER = 0.2
SLOW_SECONDS = 1.5


class FaultProxy:
    """The running proxy: where it listens, and how often it injected each fault."""

    def __init__(self, upstream: str, schedule: Iterable[Fault | None]):
        self.upstream = upstream
        self.faults: Iterator[Fault | None] = chain(schedule, repeat(None))
        self.injected: Counter[Fault] = Counter()
        self.arrivals: list[float] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes | None) -> None:
                with proxy.lock:
                    fault = next(proxy.faults)
                    proxy.arrivals.append(time.monotonic())
                    if fault is not None:
                        proxy.injected[fault] += 1
                if fault == Fault.TOO_MANY:
                    self._send(429, b'{"error": "slow down"}', retry_after=RETRY_AFTER)
                elif fault == Fault.ERROR:
                    self._send(500, b"Internal Server Error")
                elif fault == Fault.RESET:
                    self._reset()
                elif fault == Fault.GARBAGE:
                    self._send(200, b"<html>Bad Gateway</html>")
                elif fault == Fault.SHAPE:
                    self._send(200, json.dumps({"choices": [{"text": 3}], "usage": None}).encode())
                else:
                    self._pass_on(body, fault)

            def _pass_on(self, body: bytes | None, fault: Fault | None) -> None:
                request = Request(proxy.upstream + self.path, data=body)
                request.add_header("Content-Type", "application/json")
                if key := self.headers.get("Authorization"):
                    request.add_header("Authorization", key)
                try:
                    with _direct.open(request, timeout=120) as response:
                        status, answer = response.status, response.read()
                except HTTPError as error:
                    status, answer = error.code, error.read()
                except (URLError, ConnectionError):
                    self._reset()  # the server is away
                    return
                if fault == Fault.SLOW:
                    time.sleep(SLOW_SECONDS)
                if fault == Fault.HALF:
                    answer = answer[: len(answer) // 2]
                if fault == Fault.CUT:
                    self._send(status, answer[: len(answer) // 2], length=len(answer))
                    self._reset()
                    return
                self._send(status, answer)

            def _send(
                self,
                status: int,
                answer: bytes,
                *,
                length: int | None = None,
                retry_after: float | None = None,
            ) -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(length or len(answer)))
                    if retry_after is not None:
                        self.send_header("Retry-After", str(retry_after))
                    self.end_headers()
                    self.wfile.write(answer)
                    self.wfile.flush()
                except OSError:
                    self.close_connection = True  # the client has gone

            def _reset(self) -> None:
                self.close_connection = True
                linger = struct.pack("ii", 1, 0)  # RST in place of FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()

        return Handler


@contextmanager
def fault_proxy(upstream: str, schedule: Iterable[Fault | None] = ()) -> Iterator[FaultProxy]:
    """Run a proxy before the server at `upstream`, an address without `/v1`."""
    proxy = FaultProxy(upstream, schedule)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
