"""External trainers: a command that reads items and a recipe and leaves a peft folder.

Each attempt has a folder of its own, and its processes carry its name in their environment. An
attempt whose isogloss was killed is ended before the next one begins, and what it has written is
not read.
"""

import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from isogloss.config.train_command import Placeholder, filled
from isogloss.errors import ConfigError, TrainingError
from isogloss.files import keep_to_owner, looked_for

logger = logging.getLogger(__name__)

ATTEMPT = "ISOGLOSS_ATTEMPT"  # variable of the command's environment: the folder of its attempt
ATTEMPTS = "attempt-"  # of the names of folders
CHECKPOINT = re.compile(r"checkpoint-(\d+)")  # folders of transformers' Trainer and its relatives
ADAPTER_CONFIG = "adapter_config.json"
POLL_SECONDS = 0.2
LINE_SECONDS = 20.0  # between lines of progress
GRACE_SECONDS = 10.0  # between asking processes to end and ending them
ROUNDS = 3
TAIL_BYTES = 8192
SHOWN = 200  # characters of a line of the log in a message


@dataclass(frozen=True)
class Attempt:
    """The folder of one run of a training command."""

    folder: Path

    @property
    def output(self) -> Path:
        """Where the command leaves the adapter."""
        return self.folder / "output"

    @property
    def recipe(self) -> Path:
        """The recipe file."""
        return self.folder / "recipe.json"

    @property
    def log(self) -> Path:
        """What the command printed; named like the attempt, since a run keeps those of several."""
        return self.folder / f"{self.folder.name}.log"

    def data(self, split: str) -> dict[str, Path]:
        """The files of a split by placeholder: texts, chats and tokens."""
        names = (split, f"{split}_chat", f"{split}_tokens")
        return {name: self.folder / f"{name}.jsonl" for name in names}


def new_attempt(work: Path) -> Attempt:
    """A new attempt in a work folder; earlier ones are ended and deleted."""
    for folder in work.glob(f"{ATTEMPTS}*"):
        if ended := _end_processes(folder):
            logger.warning(f"{ended} processes of an interrupted training command are ended")
        shutil.rmtree(folder, ignore_errors=True)
    attempt = Attempt(work / f"{ATTEMPTS}{uuid.uuid4().hex[:12]}")
    attempt.output.mkdir(parents=True)
    return attempt


def require_program(words: Sequence[str]) -> None:
    """Raise ConfigError if the program of a command does not exist."""
    if shutil.which(words[0]) is None:
        raise ConfigError(
            f"engine.train begins with {words[0]!r}, which is no program that can be run"
            f"{looked_for(words[0]) if os.sep in words[0] else ''}."
        )


def run_trainer(
    words: Sequence[str],
    values: Mapping[Placeholder, str],
    attempt: Attempt,
    label: str,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Run a training command to its end, its output into the attempt's log; return its status.

    The command runs in the current directory, with its processes in a group of their own. An
    interrupt, SIGTERM, or an error of `check`, which is called meanwhile, ends them. The status is
    negative for a command that a signal ended. Raises TrainingError if it cannot be started.
    """
    command = filled(words, values)
    logger.info(f"{label}: running {command[0]}, output in {attempt.log}")
    environment = {**os.environ, ATTEMPT: str(attempt.folder), "PYTHONUNBUFFERED": "1"}
    with attempt.log.open("wb") as log, _terminable():
        keep_to_owner(attempt.log)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise TrainingError(
                f"the training command {command[0]!r} cannot be started ({error.strerror})."
            ) from error
        try:
            _wait(process, attempt, label, check)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            _end_processes(attempt.folder)
            process.wait()
    return process.returncode


def status_of(code: int) -> str:
    """How a command ended: its exit status, or the name of the signal that ended it."""
    return str(code) if code >= 0 else signal.Signals(-code).name


def failure_sentence(code: int, log: Path) -> str:
    """What is said of a command that failed."""
    kind = "exit status" if code > 0 else "signal"
    last = last_line(log)
    said = f"the last line of its log is {last!r}" if last else "it printed nothing"
    return f"the training command ended with {kind} {status_of(code)}; {said}."


def _wait(
    process: subprocess.Popen[bytes], attempt: Attempt, label: str, check: Callable[[], None]
) -> None:
    started = shown = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return
        check()
        if (now := time.monotonic()) - shown >= LINE_SECONDS:
            shown = now
            logger.info(
                f"{label}: {_clock(now - started)}, {last_line(attempt.log) or 'no output'}"
            )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def last_line(log: Path) -> str:
    """The last line with text of a log, shortened; progress bars overwrite theirs."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = stream.read().decode("utf-8", "replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip() for line in re.split(r"[\r\n]", text)]
    return next((line[-SHOWN:] for line in reversed(lines) if line), "")


def _end_processes(folder: Path) -> int:
    """End all processes of an attempt on this machine; return how many there were."""
    count = 0
    for _ in range(ROUNDS):  # what ends may have started others meanwhile
        processes = list(_processes_of(folder))
        if not processes:
            break
        count += len(processes)
        for process in processes:
            with suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=GRACE_SECONDS)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    return count


def _processes_of(folder: Path) -> Iterator[psutil.Process]:
    """Processes whose environment names the attempt, whatever group they are in."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended meanwhile, or another user's
            if process.environ().get(ATTEMPT) == str(folder):
                yield process


@contextmanager
def _terminable() -> Iterator[None]:
    """Context in which SIGTERM interrupts like Ctrl-C, so that the command is ended.

    Where something handles it already, as the program's commands do, it stays so.
    """
    main = threading.current_thread() is threading.main_thread()  # which alone may set handlers
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one does not disturb the end
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def find_adapter(output: Path) -> Path:
    """The folder of the adapter that a command left: the output folder, or one in it.

    Of several checkpoints in one folder the last is taken. TrainingError if there is none, or if
    there are several that are no checkpoints.
    """
    if (output / ADAPTER_CONFIG).is_file():
        return output
    folders = sorted(path.parent for path in output.rglob(ADAPTER_CONFIG))
    if not folders:
        raise TrainingError(
            f"the training command left no {ADAPTER_CONFIG} in {{output}}; expected a peft folder."
        )
    steps = {path: CHECKPOINT.fullmatch(path.name) for path in folders}
    numbers = {path: int(match[1]) for path, match in steps.items() if match}
    if len(folders) > 1 and (
        len(numbers) < len(folders) or len({path.parent for path in folders}) > 1
    ):
        names = ", ".join(str(path.relative_to(output)) for path in folders[:3])
        raise TrainingError(
            f"the training command left {len(folders)} adapters in {{output}} ({names}); expected "
            "one, or the checkpoints of one training."
        )
    return max(folders, key=lambda path: numbers.get(path, 0))
