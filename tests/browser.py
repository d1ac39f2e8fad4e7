"""A headless browser for tests of HTML pages."""

import fcntl
import json
import os
import select
import subprocess
from contextlib import contextmanager
from itertools import count


def pipe():
    """Both ends of a pipe, with descriptors that do not clash with Chromium's 3 and 4."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved


class Browser:
    """Headless Chromium, controlled through its DevTools protocol over a pipe."""

    def __init__(self, profile):
        ours_in, theirs_out = pipe()
        theirs_in, ours_out = pipe()
        flags = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --no-first-run"
        # Chromium reads commands from file descriptor 3 and writes answers to 4.
        script = f'exec chromium {flags} "--user-data-dir=$0" 3<&$1 4>&$2'
        self.process = subprocess.Popen(
            ["bash", "-c", script, str(profile), str(theirs_in), str(theirs_out)],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.incoming, self.outgoing = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self.numbers, self.events, self.rest, self.session = count(1), [], b"", None

    def close(self):
        self.outgoing.close()
        self.process.terminate()
        self.process.wait(timeout=20)
        self.incoming.close()

    def receive(self):
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.incoming], [], [], 60)
            assert ready, "Chromium did not answer within 60 s"
            more = os.read(self.incoming.fileno(), 1 << 16)
            assert more, "Chromium closed the connection"
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.outgoing.write(json.dumps(message).encode() + b"\0")
        self.outgoing.flush()
        while (answer := self.receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page, width, scheme):
        """Show a page at that width; return the URLs requested and the console messages."""
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())
        requests = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        messages = [
            event
            for event in self.events
            if event.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled")
        ]
        return [url for url in requests if not url.startswith("data:")], messages

    def value(self, expression, *, wait=False):
        """The value of an expression in the page; `wait` for that of a promise."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=wait)
        return result["result"]["value"]

    @contextmanager
    def frame(self, url):
        """Context in which `value` is of the frame of another origin whose address begins so."""
        page, self.session = self.session, None
        targets = self.call("Target.getTargets", filter=[{}])["targetInfos"]
        (frame,) = (each for each in targets if each["url"].startswith(url))
        attached = self.call("Target.attachToTarget", targetId=frame["targetId"], flatten=True)
        self.session = attached["sessionId"]
        try:
            yield
        finally:
            self.session = page
