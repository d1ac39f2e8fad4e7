"""The tier `slow`: tests with tiny models that take half a second or more, by a list of them.

`make test-unit` leaves them out. `ISOGLOSS_SLOW_TESTS=1` writes the list at the end of a run: what it
has measured, and what is listed and was not run.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("slow_tests.txt")
SECONDS = 0.5  # of a test with all its parameters, setup and teardown


def listed() -> set[str]:
    """The slow tests, by file and name."""
    return set(LIST.read_text("utf-8").split()) if LIST.is_file() else set()


def name_of(node_id: str) -> str:
    """A test's file and name, without parameters."""
    return node_id.partition("[")[0]


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests."""
    slow = listed()
    for item in items:
        if name_of(item.nodeid) in slow:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the list, if the environment asks for it; in the first of several processes alone."""
    if os.environ.get("ISOGLOSS_SLOW_TESTS") != "1" or "PYTEST_XDIST_WORKER" in os.environ:
        return
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[name_of(report.nodeid)] += report.duration
    slow = {name for name, took in seconds.items() if took >= SECONDS}
    LIST.write_text("".join(f"{name}\n" for name in sorted(slow | (listed() - set(seconds)))))
