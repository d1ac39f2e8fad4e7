"""vLLM itself, serving the embedded model on loopback, against this process.

It runs where vLLM's CPU build is installed (`make install-vllm`, or $ISOGLOSS_VLLM).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from safetensors.torch import load_file, save_file

from isogloss import tracking
from isogloss.config import EvaluateConfig, StudyConfig
from isogloss.config.engine import Engine, as_yaml
from isogloss.errors import ModelError
from isogloss.inference.answer_journal import entries, usage_of
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.evaluate import evaluate
from isogloss.stages.session import Session
from isogloss.stages.study import run_study
from isogloss.tracking.resume import work_root
from scripts.vllm_server import installed

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not installed(), reason="vLLM is not installed: make install-vllm"),
]
ROOT = Path(__file__).parents[2]
LANGUAGES = ("arb_Arab", "eng_Latn")
# Root mean square of the differences of log-likelihoods (nats) of a choice, and the difference of
# scores above which both have the same prediction: bfloat16 has 8 bits of precision, so that a
# logit of 20 is rounded by up to 0.06.
LARGEST_RMS = {"letter": 0.15, "cloze": 0.5}
CLEAR_MARGIN = {"letter": 0.4, "cloze": 0.8}


@pytest.fixture(scope="module")
def vllm(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a vLLM with the embedded model and an adapter `idle`, whose effect is zero."""
    folder = tmp_path_factory.mktemp("vllm")
    shutil.copytree(adapter, folder / "idle")
    weights = folder / "idle/adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({key: 0 * value for key, value in tensors.items()}, weights, {"format": "pt"})
    with socket.socket() as probed:
        probed.bind(("127.0.0.1", 0))
        port = str(probed.getsockname()[1])
    words = [sys.executable, "-m", "scripts.vllm_server", "embedded", "--port", port]
    log = folder / "vllm.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [*words, "--adapter", f"idle={folder / 'idle'}"], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=stream,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert line.startswith("ready"), log.read_text()[-3000:]
        yield line.split()[-1]
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()


def engine(vllm: str, **values: object) -> Engine:
    return Engine.model_validate({"kind": "vllm", "base_url": vllm, "timeout": 300, **values})


def configured(served_by: Engine | None = None, **values: object) -> EvaluateConfig:
    own = {"engine": served_by} if served_by else {"dtype": "bfloat16"}
    return EvaluateConfig.model_validate({"languages": LANGUAGES, "limit": 10, **own, **values})


def evaluated(config: EvaluateConfig, adapter: Path | None = None) -> Run:
    return evaluate(config, Session.of(config), AdapterRef.in_folder(adapter) if adapter else None)


def predictions(run: Run) -> pd.DataFrame:
    return tracking.read_predictions(run.info.run_id)


@pytest.mark.parametrize("format", ["letter", "cloze"])
def test_scores_of_base_and_adapter_are_those_of_this_process_within_bfloat16(
    format: str, vllm: str, adapter: Path
) -> None:
    by_condition, largest_rms = [], 0.0
    for folder in (None, adapter):
        how = {"format": format, "normalisation": "none"}
        here = predictions(evaluated(configured(**how), folder))
        there = predictions(evaluated(configured(engine(vllm), **how), folder))
        assert list(there["item_id"]) == list(here["item_id"])
        logprob_IC, served_IC = (np.stack(rows["choice_logprobs"]) for rows in (here, there))
        rms = float(np.sqrt(np.mean((served_IC - logprob_IC) ** 2)))
        ordered_IC = np.sort(logprob_IC, axis=1)
        margin_I = ordered_IC[:, -1] - ordered_IC[:, -2]
        same_I = here["prediction"].to_numpy() == there["prediction"].to_numpy()
        print(f"{format} {'tuned' if folder else 'base'}: rms {rms:.3f} nats, "
              f"{int(same_I.sum())} of {len(same_I)} predictions equal, "
              f"largest margin of others {margin_I[~same_I].max(initial=0):.3f}")  # fmt: skip
        largest_rms = max(largest_rms, rms)
        assert rms < LARGEST_RMS[format]
        assert same_I[margin_I > CLEAR_MARGIN[format]].all()
        assert (margin_I > CLEAR_MARGIN[format]).mean() > 0.2
        by_condition.append((logprob_IC, served_IC))
    (base_IC, served_base_IC), (tuned_IC, served_tuned_IC) = by_condition
    # What the adapter changes is far larger than rounding, and the same change.
    change, served_change = (tuned_IC - base_IC).ravel(), (served_tuned_IC - served_base_IC).ravel()
    assert np.sqrt(np.mean(change**2)) > 3 * largest_rms
    assert np.corrcoef(change, served_change)[0, 1] > 0.98


@pytest.mark.parametrize("reasoning", ["direct", "cot"])
def test_texts_are_generated_and_parsed(reasoning: str, vllm: str) -> None:
    how = {"format": "generate", "reasoning": reasoning, "limit": 4, "max_new_tokens": 24}
    here = predictions(evaluated(configured(**how)))
    there = predictions(evaluated(configured(engine(vllm), **how)))
    assert there["text"].str.len().min() > 0
    # Greedy texts are equal until two tokens are as likely up to rounding.
    same = here["text"] == there["text"]
    assert same.mean() >= 0.5
    assert (here["greedy"] == there["greedy"])[same].all()


def test_a_study_evaluates_by_the_server_what_an_external_program_has_trained(vllm: str) -> None:
    """Base, training by TRL, the adapter loaded at run time, and the comparison, in one study."""
    pytest.importorskip("trl", reason="TRL is not installed: pip install -r requirements-dev.txt")
    trainer = f"{sys.executable} {ROOT / 'examples/train_with_trl.py'} {{recipe}} {{output}}"
    study = StudyConfig.model_validate(
        {
            "study": "served", "model": "embedded", "engine": engine(vllm, train=trainer),
            "languages": ("arb_Arab", "heb_Hebr", "mlt_Latn", "eng_Latn", "tur_Latn"), "limit": 2,
            "format": "letter",
            "finetune": {
                "steps": 2, "batch_size": 1, "limit": 2, "dev_limit": 1, "rank": 4,
                "learning_rate": 5e-3, "target_modules": "attention",
            },
        }
    )  # fmt: skip
    compared = mlflow.get_run(run_study(study))
    assert compared.info.status == "FINISHED"
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    by_kind = {run.data.tags["isogloss.kind"]: run for run in runs}
    trained = by_kind["finetune"].data.tags
    assert trained["isogloss.trainer"] == "command"
    assert "trl:1.16" in trained["isogloss.trainer_versions"]
    base, tuned = (
        next(run for run in runs if run.data.tags.get("isogloss.condition") == condition
             and run.data.tags["isogloss.kind"] == "evaluate")
        for condition in ("base", "tuned")
    )  # fmt: skip
    for run in (base, tuned):
        assert run.data.tags["isogloss.engine"] == "vllm"
        assert run.data.metrics["server/requests"] == 10
    assert tuned.data.tags["isogloss.adapter"] == trained["isogloss.adapter"]
    with urllib.request.urlopen(f"{vllm}/models") as answer:
        listed = {card["id"] for card in json.load(answer)["data"]}
    assert f"isogloss-{trained['isogloss.adapter'][:16]}" in listed
    served_IC, before_IC = (np.stack(predictions(run)["choice_logprobs"]) for run in (tuned, base))
    with adapter_folder(by_kind["finetune"].info.run_id) as folder:
        here = evaluated(configured(format="letter", languages=study.languages, limit=2), folder)
    logprob_IC = np.stack(predictions(here)["choice_logprobs"])
    rms, effect = (
        float(np.sqrt(np.mean((served_IC - other_IC) ** 2))) for other_IC in (logprob_IC, before_IC)
    )
    print(f"rms {rms:.3f} nats beside this process, effect of the adapter {effect:.3f}")
    assert rms < LARGEST_RMS["letter"]
    assert effect > 3 * rms


def test_a_server_that_answers_with_the_base_in_place_of_an_adapter_is_refused(
    vllm: str, adapter: Path
) -> None:
    config = configured(engine(vllm, adapter="idle"))
    with pytest.raises(ModelError, match="answers with the adapter as without it"):
        evaluated(config, adapter)
    assert mlflow.search_runs(output_format="list", search_all_experiments=True) == []


def test_a_client_that_is_killed_asks_about_each_item_once(vllm: str, tmp_path: Path) -> None:
    config = configured(engine(vllm, concurrency=2), format="letter", limit=20)
    words = [sys.executable, "-m", "isogloss", "evaluate", "--engine", as_yaml(config.engine)]
    words += ["--format", "letter", "--limit", "20", "--languages", ",".join(LANGUAGES)]
    client = subprocess.Popen(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until, lines = time.monotonic() + 240, []
    while len(lines) < 6 and time.monotonic() < until:
        time.sleep(0.05)
        journals = work_root().glob("evaluate-*/*.jsonl")
        lines = [line for path in journals for line in path.read_bytes().splitlines()]
    client.kill()
    client.wait()
    journals = list(work_root().glob("evaluate-*/*.jsonl"))
    answered = sum(len(list(entries(path))) for path in journals)
    counted = usage_of(journals).requests
    assert 6 <= answered < 40
    run = evaluated(config)
    assert run.data.metrics["server/requests"] - counted == 40 - answered
    table = predictions(run)
    assert len(table) == len(table.drop_duplicates(["language", "item_id"])) == 40
    (only,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert only.info.run_id == run.info.run_id
