"""TRL as the trainer of the embedded model: its tokens are ours, its adapter is its own model.

Also an isogloss that is killed while a command trains.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import torch
import transformers
from chat_templates import CHATML
from conftest import probe

from isogloss.config import FinetuneConfig
from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.registry.lookup import adapter_folder
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.training.batches import training_rows
from isogloss.training.external_data import (
    IGNORED,
    exactness,
    recipe_facts,
    trainer_items,
    write_json,
)
from isogloss.training.recipe import Recipe
from isogloss.types import Format

pytestmark = pytest.mark.real

trl = pytest.importorskip("trl", reason="TRL is not installed: pip install -r requirements-dev.txt")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/train_with_trl.py"
# Trains by the example, and writes the log-likelihoods of choices by TRL's own model in memory.
PROBING = """
import importlib.util, json, sys, torch
from pathlib import Path
spec = importlib.util.spec_from_file_location("train_with_trl", {example!r})
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
trainer = example.train(Path(sys.argv[1]), Path(sys.argv[2]))
network, tokenizer = trainer.model.eval(), trainer.processing_class
values = []
with torch.inference_mode():
    for context, choices in json.loads(Path({asked!r}).read_text("utf-8")):
        start = len(tokenizer(context).input_ids)
        for choice in choices:
            ids = tokenizer(context + choice, return_tensors="pt").input_ids
            logprobs = network(input_ids=ids).logits[0].double().log_softmax(-1)
            values.append(sum(float(logprobs[at - 1, ids[0, at]]) for at in range(start, ids.shape[1])))
Path({answers!r}).write_text(json.dumps(values))
"""
LARGEST_DIFFERENCE = 2e-4  # nats; sums of products in another order


def test_an_adapter_of_trl_scores_as_the_model_in_its_memory(tmp_path: Path) -> None:
    """Log-likelihoods of all labels of eight items in two languages, none of them trained on."""
    items = [item for code in ("heb_Hebr", "eng_Latn") for item in probe(code, "test", 4)]
    protocol = Protocol(Format.LETTER)
    asked, answers, script = (
        tmp_path / name for name in ("asked.json", "answers.json", "train.py")
    )
    asked.write_text(json.dumps([list(prompt(item, protocol)) for item in items]), "utf-8")
    script.write_text(
        PROBING.format(example=str(EXAMPLE), asked=str(asked), answers=str(answers)), "utf-8"
    )
    config = FinetuneConfig.model_validate(
        {
            "dtype": "float32", "format": "letter", "steps": 2, "batch_size": 2, "limit": 8,
            "dev_limit": 4, "rank": 4, "alpha": 8, "learning_rate": 2e-3, "target_modules": "attention",
            "engine": {
                "kind": "command", "train": f"{sys.executable} {script} {{recipe}} {{output}}",
            },
        }
    )  # fmt: skip
    session = Session.of(config)
    run = finetune(config, session)
    assert run.data.tags["isogloss.trainer_status"] == "0"
    assert "trl:1.16" in run.data.tags["isogloss.trainer_versions"]
    model = session.model
    with adapter_folder(run.info.run_id) as folder:
        digest = attach(model, folder)
    scores = {}
    for adapter in (digest, None):
        with model.using(adapter):
            predictions = predict(model, items, protocol, "probe")
        scores[adapter] = torch.tensor([each.choice_logprobs for each in predictions]).double()
    theirs = torch.tensor(json.loads(answers.read_text("utf-8"))).double().view(len(items), -1)
    difference = float((scores[digest] - theirs).abs().max())
    effect = float((scores[None] - theirs).abs().max())
    print(f"largest difference {difference:.2g} nats, largest effect of the adapter {effect:.2g}")
    assert difference < LARGEST_DIFFERENCE
    assert effect > 100 * LARGEST_DIFFERENCE


def example() -> Any:
    """The example for TRL as a module."""
    spec = importlib.util.spec_from_file_location("train_with_trl", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROTOCOLS = {
    "plain": (Protocol(Format.CLOZE), None),
    "chat": (Protocol(Format.LETTER, chat=True), "{{ bos_token }}" + CHATML),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_trl_trains_on_the_tokens_that_this_process_trains_on(
    name: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """In the batches that reach TRL's loss, padding aside; texts get an end of sequence as well."""
    protocol, template = PROTOCOLS[name]
    base = tmp_path / "base"
    network = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gemma3"))
    network.save_pretrained(base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder("gemma3"))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(base)
    model = load(locate(str(base)), "float32")
    items = probe("arb_Arab", "train", 6)
    rows = [training_rows(model, [item], protocol)[0] for item in items]
    ours = sorted(
        ([*row.tree.tokens, row.targets[-1][1]], [token for _, token in row.targets])
        for row in rows
    )
    written = trainer_items(items, protocol, model.tokenizer)
    files = {key: tmp_path / f"{key}.jsonl" for key in ("train", "train_chat", "train_tokens")}
    written.write(*files.values())
    recipe = recipe_facts(
        Recipe(steps=1, batch_size=6), protocol, exactness(written, protocol, model.tokenizer),
        model={"path": str(base)}, peft={"target_modules": ["q_proj"], "target_parameters": None},
        files={
            "train_tokens": str(files["train_tokens"]), "dev_tokens": str(files["train_tokens"]),
        },
    )  # fmt: skip
    write_json(tmp_path / "recipe.json", recipe)
    trainer = example().trainer_of(recipe, tmp_path / "output")
    assert trained_on(trainer) == ours
    from datasets import load_dataset

    texts = load_dataset("json", data_files=str(files["train"]), cache_dir=str(tmp_path / "cache"))
    of_texts = trl.SFTTrainer(
        model=network, args=trainer.args, train_dataset=texts["train"], processing_class=tokenizer
    )
    end = tokenizer.eos_token_id
    assert trained_on(of_texts) == sorted(([*ids, end], [*labels, end]) for ids, labels in ours)


def trained_on(trainer: Any) -> list[tuple[list[int], list[int]]]:
    """Tokens and those with a loss of each item, from the batch that goes into the model."""
    (batch,) = trainer.get_train_dataloader()
    found = []
    for ids, mask, labels in zip(
        batch["input_ids"].tolist(), attended(batch), batch["labels"].tolist(), strict=True
    ):
        shown = [token for token, seen in zip(ids, mask, strict=True) if seen]
        found.append((shown, [label for label in labels if label != IGNORED]))
    return sorted(found)


def attended(batch: Any) -> list[list[int]]:
    if "attention_mask" in batch:
        mask: list[list[int]] = batch["attention_mask"].tolist()
        return mask
    return torch.ones_like(batch["input_ids"]).tolist()


DRIVER = """
from isogloss.config import FinetuneConfig
from isogloss.stages.finetune import run_finetune
import json, sys
run_finetune(FinetuneConfig.model_validate(json.loads(sys.argv[1])))
"""
# The first attempt writes for ever what must not be taken for the result of the second.
TRAINER = """#!/bin/sh
if [ ! -e {mark} ]; then
  echo $$ > {mark}
  while true; do cp -r {wrong}/. "$1"/; sleep 0.05; done
fi
cp -r {right}/. "$1"/
"""


def test_after_kill_9_the_next_call_ends_the_command_and_trains_anew(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from tiny_adapters import change_weights, write_adapter

    base = model_folder("gemma3")
    right, wrong, mark = (tmp_path / name for name in ("right", "wrong", "mark"))
    for folder in (right, wrong):
        write_adapter(base, folder, r=2, target_modules=["q_proj"])
    change_weights(wrong, lambda key, tensor: (key, 3 * tensor))
    script = tmp_path / "train.sh"
    script.write_text(TRAINER.format(mark=mark, wrong=wrong, right=right), "utf-8")
    settings: dict[str, object] = {
        "model": str(base), "dtype": "float32", "steps": 2, "limit": 4, "dev_limit": 2, "rank": 2,
        "engine": {"kind": "command", "train": f"sh {script} {{output}} {{train}}"},
    }  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
    }
    program = subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(settings)], env=environment
    )
    end = time.monotonic() + 600
    while not (mark.is_file() and mark.read_text().strip()):
        assert program.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    orphan = psutil.Process(int(mark.read_text()))
    assert orphan.is_running()
    interrupted = mlflow.search_runs(search_all_experiments=True, output_format="list")
    config = FinetuneConfig.model_validate(settings)
    run = finetune(config, Session.of(config))
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert [each.info.run_id for each in interrupted] == [run.info.run_id]
    assert run.info.status == "FINISHED"
    with adapter_folder(run.info.run_id) as folder:
        taken = (folder / "adapter_model.safetensors").read_bytes()
    assert taken == (right / "adapter_model.safetensors").read_bytes()
