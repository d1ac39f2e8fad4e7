"""Commands that train: their ends, their logs, the processes and adapters that they leave."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from isogloss.config.train_command import Placeholder
from isogloss.errors import ConfigError, TrainingError
from isogloss.training.external import (
    ATTEMPT,
    Attempt,
    failure_sentence,
    find_adapter,
    last_line,
    new_attempt,
    require_program,
    run_trainer,
)

WAIT = 120.0  # seconds; a busy machine is slow


def attempt(folder: Path) -> Attempt:
    return new_attempt(folder)


def run(words: str, of: Attempt) -> int:
    return run_trainer(shlex.split(words), {Placeholder.OUTPUT: str(of.output)}, of, "test")


def until(condition: object) -> None:
    end = time.monotonic() + WAIT
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "still not so"
        time.sleep(0.02)


def test_a_command_gets_its_paths_and_its_output_is_logged(tmp_path: Path) -> None:
    own = attempt(tmp_path)
    assert run("""sh -c 'echo "in $1"; touch "$1/done"; echo two >&2' _ {output}""", own) == 0
    assert (own.output / "done").is_file()
    assert own.log.read_text("utf-8") == f"in {own.output}\ntwo\n"


def test_a_failure_is_told_with_its_status_and_last_line(tmp_path: Path) -> None:
    own = attempt(tmp_path)
    code = run("sh -c 'echo one; echo out of memory; exit 3'", own)
    assert failure_sentence(code, own.log) == (
        "the training command ended with exit status 3; the last line of its log is 'out of "
        "memory'."
    )
    killed = attempt(tmp_path)
    assert failure_sentence(run("sh -c 'kill -9 $$'", killed), killed.log) == (
        "the training command ended with signal SIGKILL; it printed nothing."
    )


def test_the_last_line_is_that_of_a_progress_bar_as_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n 10%\r 50%\r\x1b[32m 90%\x1b[0m\r\n\n")
    assert last_line(log) == "90%"


def test_programs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="begins with 'no-such-trainer', which is no program"):
        require_program(["no-such-trainer", "x"])
    require_program(["sh"])


def test_what_a_command_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    own = attempt(tmp_path)
    pid = tmp_path / "pid"
    assert run(f"sh -c 'setsid sleep 300 & echo $! > {pid}'", own) == 0
    until(lambda: not psutil.pid_exists(int(pid.read_text())) or ended(int(pid.read_text())))


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_new_attempt_ends_and_deletes_an_earlier_one(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    writing = f"while true; do mkdir -p {first.output}; date > {first.output}/adapter; done"
    orphan = subprocess.Popen(["sh", "-c", writing], env={**os.environ, ATTEMPT: str(first.folder)})
    until(lambda: (first.output / "adapter").is_file())
    second = attempt(tmp_path)
    assert ended(orphan.pid)
    orphan.wait(WAIT)
    assert not first.folder.exists()
    assert second.folder != first.folder
    assert list(second.output.iterdir()) == []


INTERRUPTED = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
from isogloss.training.external import new_attempt, run_trainer
own = new_attempt(Path(sys.argv[1]))
run_trainer(["sh", "-c", "echo $$ > %s/pid; sleep 300 & wait" % sys.argv[1]], {}, own, "test")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_isogloss_ends_the_command(tmp_path: Path, number: int) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pid = tmp_path / "pid"
    until(lambda: pid.is_file() and pid.read_text().strip())
    time.sleep(0.1)
    program.send_signal(number)
    _, said = program.communicate(timeout=WAIT)
    assert program.returncode != 0
    assert b"KeyboardInterrupt" in said
    assert ended(int(pid.read_text()))


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({}), encoding="utf-8")
    return folder


def test_the_adapter_is_the_output_folder_or_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"left no adapter_config\.json in"):
        find_adapter(tmp_path)
    first = adapter(tmp_path / "v0" / "checkpoint-20")
    assert find_adapter(tmp_path) == first
    last = adapter(tmp_path / "v0" / "checkpoint-100")
    assert find_adapter(tmp_path) == last
    other = adapter(tmp_path / "other")
    with pytest.raises(TrainingError, match=r"left 3 adapters in \{output\} \(other, v0/checkp"):
        find_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert find_adapter(tmp_path) == tmp_path
    assert other.is_dir()
