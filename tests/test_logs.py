"""Log records and progress: a bar on a terminal, plain lines in a file."""

import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss import logs

SOURCE = Path(__file__).parents[1] / "src"
PROGRAM = """
import logging, time
from isogloss import logs
logs.LOG_INTERVAL = 0.05
logs.configure({level})
logger = logging.getLogger("isogloss.example")
logger.debug("detail")
logger.info("begins")
with logs.progress_bar("counting", "step", total=20) as progress:
    for step in range(20):
        progress.set_postfix_str(f"loss {{step}}", refresh=False)
        progress.update()
        if step == 10:
            logger.info("halfway")
        time.sleep(0.02)
logger.warning("ends")
"""
FINETUNE = """
import time
from isogloss import logs
logs.configure()
with logs.bars_of("2/3 finetune arb_Arab s0"):
    with logs.progress_bar("cell 2 of 3 · finetune · Arabic, seed 0", "step", total=120) as bar:
        for step in range(120):
            logs.tell(bar, bar="loss 0.33, dev 0.35", line="dev accuracy")
            bar.update()
            time.sleep(0.01)
"""
LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING) "


def program(level: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(level=level)]


def in_file(path: Path, level: str = "logging.INFO") -> str:
    """What the program writes to a file in place of stderr."""
    with path.open("wb") as stream:
        subprocess.run(
            program(level), stderr=stream, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True
        )
    return path.read_bytes().decode()


def on_terminal(level: str = "logging.INFO", code: str | None = None, columns: int = 100) -> str:
    """What the program writes to a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = program(level) if code is None else [sys.executable, "-c", code]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    os.close(leader)
    return shown.decode()


def test_a_file_has_lines_with_time_elapsed_time_and_remaining_time(tmp_path: Path) -> None:
    written = in_file(tmp_path / "log.txt")
    assert "\r" not in written
    assert "\x1b" not in written
    lines = written.splitlines()
    assert all(re.match(LINE, line) for line in lines), written
    assert all(line == line.rstrip() for line in lines)
    progress = [line for line in lines if "counting" in line]
    assert 2 <= len(progress) <= 9, written  # 0.4 seconds, a line in 0.05
    assert re.fullmatch(
        LINE + r"counting: \d+/20 steps, 00:00 elapsed, 00:0\d remaining, loss \d+", progress[-1]
    )
    assert [line.split()[-1] for line in lines if "counting" not in line] == [
        "begins", "halfway", "ends",
    ]  # fmt: skip


def test_a_terminal_has_a_bar_that_is_gone_at_the_end_and_bare_messages() -> None:
    shown = on_terminal()
    assert re.search(r"\rcounting \|.*\| \d+/20, 00:0\d left, loss \d+", shown)
    messages = [line.split("\r")[-1] for line in shown.replace("\r\n", "\n").split("\n")]
    assert messages[:2] == ["begins", "halfway"]
    assert messages[-2] == "ends"
    assert not re.search(LINE, shown)


def test_bars_of_a_study_fit_eighty_columns() -> None:
    shown = on_terminal(code=FINETUNE, columns=80)
    bars = re.findall(r"2/3 finetune arb_Arab s0 \|(.*?)\| \d+/120, \d\d:\d\d left([^\r]*)", shown)
    assert bars, shown
    assert all(len(bar) >= 10 for bar, _ in bars)
    assert bars[-1][1].rstrip() == ", loss 0.33, dev 0.35"


def test_quiet_shows_warnings_without_progress(tmp_path: Path) -> None:
    assert re.fullmatch(
        LINE + r"ends\n", in_file(tmp_path / "log.txt", "logging.WARNING"),
    )  # fmt: skip
    assert on_terminal("logging.WARNING") == "ends\r\n"


def test_verbose_shows_details_and_the_module(tmp_path: Path) -> None:
    written = in_file(tmp_path / "log.txt", "logging.DEBUG")
    assert re.search(r"DEBUG isogloss\.example: detail$", written, re.MULTILINE)


@pytest.fixture
def restored() -> Iterator[logging.Logger]:
    logger = logging.getLogger("isogloss")
    level, handlers = logger.level, logger.handlers[:]
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers


def test_configuring_twice_writes_every_record_once(
    restored: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure()
    logs.configure()
    logging.getLogger("isogloss.example").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_silenced_process_shows_errors_alone(
    restored: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure()
    logs.silence()
    logging.getLogger("isogloss.example").warning("not shown")
    logging.getLogger("isogloss.example").error("shown")
    with logs.progress_bar("counting", "step", total=2) as progress:
        progress.update()
    shown = capsys.readouterr().err
    assert "not shown" not in shown
    assert "counting" not in shown
    assert "shown" in shown
