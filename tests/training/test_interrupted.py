"""Trainings that a signal interrupts: the steps that are done are kept, and no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_job

from isogloss.files import file_sha256
from isogloss.models.adapter_files import WEIGHTS
from isogloss.models.language_model import LanguageModel
from isogloss.training import checkpoints
from isogloss.training import loop as training
from isogloss.training.checkpoints import TrainingState
from isogloss.training.loop import TrainingResult, train
from isogloss.training.recipe import Recipe

# Checkpoints would come after the end: whatever is resumed was kept at the signal.
RECIPE = Recipe(
    steps=7, batch_size=4, learning_rate=5e-3, rank=2, alpha=4, dropout=0.2, eval_every=3
)


def train_once(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE
) -> tuple[TrainingResult, list[int]]:
    """Train; return the result and the steps that were logged."""
    steps: list[int] = []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" in metrics:
            steps.append(step)

    return train(model, tiny_job(folder, recipe, checkpoint_every=10), log=log), steps


@contextmanager
def interrupted_in(owner: object, name: str, call: int, *, after: bool) -> Iterator[None]:
    """Interrupt this process in a call of a function, before or after its work."""
    original: Callable[..., object] = getattr(owner, name)
    calls = 0

    def function(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            signal.raise_signal(signal.SIGINT)
        result = original(*args, **options)
        if calls == call and after:
            signal.raise_signal(signal.SIGINT)
        return result

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    setattr(owner, name, function)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        setattr(owner, name, original)
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("owner", "name", "call", "after", "kept"),
    [
        (training, "_accumulate_gradients", 1, True, 0),
        (training, "_accumulate_gradients", 5, False, 4),
        (TrainingState, "end_step", 5, True, 5),
        (torch.optim.AdamW, "step", 5, True, None),  # weights have changed, the step is not done
        (training, "predict", 1, True, None),  # nothing to keep
        (training, "predict", 2, False, 3),
        (training, "predict", 2, True, 3),
        (training, "_save", 1, False, 3),
        (training, "_save", 3, True, 7),
    ],
)
def test_an_interruption_keeps_the_steps_that_are_done_and_the_adapter_is_the_same(
    tiny: LanguageModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    owner: object,
    name: str,
    call: int,
    after: bool,
    kept: int | None,
) -> None:
    caplog.set_level("INFO", logger="isogloss")
    whole, _ = train_once(tiny, tmp_path / "whole")
    with interrupted_in(owner, name, call, after=after):
        train_once(tiny, tmp_path / "cut")
    if kept is None:
        assert caplog.messages[-1] == (
            "finetune: steps after the last checkpoint (step 0) are repeated"
        )
    else:
        assert caplog.messages[-1] == f"finetune: a checkpoint of step {kept} is kept"
    torch.manual_seed(5)  # another process has another random state
    caplog.clear()
    resumed, steps = train_once(tiny, tmp_path / "cut")
    assert steps == list(range((kept or 0) + 1, 8))
    resuming = [each for each in caplog.messages if "resuming" in each]
    at_step = kept is not None and kept < 7
    assert resuming == ([f"finetune: resuming at step {kept + 1} of 7"] if at_step else [])
    assert file_sha256(resumed.last / WEIGHTS) == file_sha256(whole.last / WEIGHTS)
    assert file_sha256(resumed.best / WEIGHTS) == file_sha256(whole.best / WEIGHTS)
    assert (resumed.dev, resumed.best_step) == (whole.dev, whole.best_step)


def test_a_large_checkpoint_is_not_written_at_a_signal(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LARGEST_AT_INTERRUPTION", 100)
    with interrupted_in(training, "_accumulate_gradients", 5, after=True):
        train_once(tiny, tmp_path)
    _, steps = train_once(tiny, tmp_path)
    assert steps == list(range(1, 8))


def test_a_training_without_checkpoints_keeps_none_when_it_is_interrupted(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    job = replace(tiny_job(tmp_path, RECIPE), checkpoint_every=None)
    with interrupted_in(training, "_accumulate_gradients", 5, after=True):
        train(tiny, job)
    assert not (tmp_path / checkpoints.CHECKPOINT).exists()


PROGRAM = """
import signal
import sys
import time
from pathlib import Path

import torch
from tiny_training import tiny_job

from isogloss import logs
from isogloss.cli.interruptions import interruptions
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.training.loop import train
from isogloss.training.recipe import Recipe

torch.set_num_threads(1)
logs.configure()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it


def log(step, metrics):
    print(step, *metrics, flush=True)
    if step == int(sys.argv[3]) and "train/loss" in metrics:
        time.sleep(300)  # until the signal: gradients are computed, weights have not changed


recipe = Recipe(steps=8, batch_size=4, learning_rate=5e-3, rank=2, alpha=4, dropout=0.2)
job = tiny_job(Path(sys.argv[2]), recipe, checkpoint_every=100)
model = load(locate(sys.argv[1]), "float32")
with interruptions():
    train(model, job, log=log)
"""


def program(model: Path, folder: Path, stop: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(model), str(folder), str(stop)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_signals_from_outside_keep_the_steps_that_are_done(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = model_folder("gemma3")
    whole = program(model, tmp_path / "whole")
    _, shown = whole.communicate()
    assert whole.returncode == 0, shown
    done = 0
    for number, stop in ((signal.SIGINT, 4), (signal.SIGTERM, 7)):
        cut = program(model, tmp_path / "cut", stop)
        assert cut.stdout is not None
        for line in cut.stdout:
            if line.startswith(f"{stop} train/loss"):
                cut.send_signal(number)
                break
        _, shown = cut.communicate(timeout=60)
        assert cut.returncode == 128 + number, shown
        assert f"finetune: a checkpoint of step {stop - 1} is kept" in shown
        if done:
            assert f"finetune: resuming at step {done + 1} of 8" in shown
        done = stop - 1
    resumed = program(model, tmp_path / "cut")
    said, shown = resumed.communicate()
    assert resumed.returncode == 0, shown
    assert f"finetune: resuming at step {done + 1} of 8" in shown
    assert said.splitlines()[0].startswith(f"{done + 1} train/loss")
    digests = [file_sha256(tmp_path / name / "last" / WEIGHTS) for name in ("whole", "cut")]
    assert digests[0] == digests[1]
