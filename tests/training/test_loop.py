from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import probe
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from tiny_training import CLOZE, RECIPE, answers, train_tiny
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from isogloss.errors import ModelError
from isogloss.models.adapters import CONFIG, WEIGHTS, adapter_digest, attach, detach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import file_sha256, locate
from isogloss.prompts.render import prompt
from isogloss.training import loop as training
from isogloss.training.loop import train


def test_the_loss_is_that_of_transformers_with_all_but_the_answer_masked(
    tiny: LanguageModel,
) -> None:
    data = probe("arb_Arab", "train", 6)
    rows = training._rows(tiny, data, CLOZE, share=True)
    total, count = 0.0, 0
    for item in data:
        entry = prompt(item, CLOZE)
        ids = tiny.tokenizer(entry.context + entry.continuations[item.answer]).input_ids
        start = len(tiny.tokenizer(entry.context).input_ids)
        labels = torch.tensor([[-100] * start + ids[start:]])
        loss = tiny.network(torch.tensor([ids]), labels=labels).loss
        total += float(loss) * (len(ids) - start)
        count += len(ids) - start
    tiny.network.get_input_embeddings().weight.requires_grad_(True)
    found = training._accumulate_gradients(tiny, rows, 2048)
    assert found == pytest.approx(total / count, abs=1e-5)


def test_gradients_do_not_depend_on_how_a_step_is_split(tiny: LanguageModel) -> None:
    weight = tiny.network.get_input_embeddings().weight.requires_grad_(True)
    rows = training._rows(tiny, probe("arb_Arab", "train", 8), CLOZE, share=True)
    training._accumulate_gradients(tiny, rows, 2048)
    together, weight.grad = weight.grad, None
    training._accumulate_gradients(tiny, rows, 1)
    assert torch.allclose(together, weight.grad, atol=1e-5)


def test_an_adapter_reloads_exactly_into_a_model_loaded_anew(
    tiny: LanguageModel, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    train_tiny(tiny, tmp_path / "adapter")
    first = answers(tiny, attach(tiny, tmp_path / "adapter" / "last"))
    again = load(locate(str(model_folder("gemma3"))), "float32")
    second = answers(again, attach(again, tmp_path / "adapter" / "last"))
    assert first == second
    assert first != answers(tiny, None)


def test_training_leaves_the_base_model_as_it_was(tiny: LanguageModel, tmp_path: Path) -> None:
    before = answers(tiny)
    train_tiny(tiny, tmp_path / "adapter")
    assert answers(tiny) == before
    attach(tiny, tmp_path / "adapter" / "last")
    assert answers(tiny, None) == before
    detach(tiny)
    assert answers(tiny) == before


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    names = ("one", "two", "three")
    recipes = (RECIPE, RECIPE, replace(RECIPE, seed=1))
    for name, recipe in zip(names, recipes, strict=True):
        train_tiny(tiny, tmp_path / name, recipe)
    one, two, three = (file_sha256(tmp_path / name / "last" / WEIGHTS) for name in names)
    assert one == two != three


def test_training_lowers_the_loss_and_logs_dev_accuracy_as_it_goes(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    log = train_tiny(
        tiny,
        tmp_path / "adapter",
        replace(RECIPE, steps=30, eval_every=10, learning_rate=3e-2, rank=8, alpha=16),
    )
    losses = [entry["train/loss"] for entry in log if "train/loss" in entry]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert [entry["step"] for entry in log if "dev/accuracy" in entry] == [0, 10, 20, 30]


def test_an_adapter_is_refused_by_another_model_and_a_folder_without_one_is_named(
    tiny: LanguageModel, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    train_tiny(tiny, tmp_path / "adapter")
    other = load(locate(str(model_folder("llama"))), "float32")
    with pytest.raises(ModelError, match="was trained on"):
        attach(other, tmp_path / "adapter" / "last")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=CONFIG):
        adapter_digest(tmp_path / "empty")


def test_a_step_is_that_of_transformers_trainer(
    tiny: LanguageModel, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Losses step by step, and the weights after the last, from the same adapter and order."""
    recipe = replace(RECIPE, steps=6, batch_size=4, eval_every=100)
    # An item a passage: what shares a passage is one row here, and two there.
    data = list({item.passage_id: item for item in probe("arb_Arab", "train", 32)}.values())
    ours: list[float] = []
    train(
        tiny, data, probe("arb_Arab", "dev", 2), CLOZE, recipe, tmp_path, task="probe",
        log=lambda step, metrics: ours.extend(metrics[name] for name in metrics if "loss" in name),
    )  # fmt: skip
    batches = training._steps(training._rows(tiny, data, CLOZE, share=True), recipe)
    shown = []
    for row in (row for batch in batches for row in batch):
        ids = [*row.tree.tokens, row.targets[-1][1]]
        labels = [-100] * (len(ids) - len(row.targets)) + [token for _, token in row.targets]
        shown.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    network = load(tiny.location, "float32").network
    torch.manual_seed(recipe.seed)
    peer = get_peft_model(
        network, LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules="all-linear")
    )
    arguments = TrainingArguments(
        str(tmp_path / "trainer"),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_steps=int(training.WARMUP * recipe.steps),
        max_grad_norm=training.MAX_GRADIENT_NORM,
        train_sampling_strategy="sequential",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        peer, arguments, DataCollatorForSeq2Seq(tiny.tokenizer), Dataset.from_list(shown)
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert ours == pytest.approx(theirs, abs=2e-4)
    trained = load_file(tmp_path / "last" / WEIGHTS)
    expected = get_peft_model_state_dict(peer)
    assert trained.keys() == expected.keys()
    for name, weight in trained.items():
        assert torch.allclose(weight, expected[name], atol=1e-4)


def test_layers_computed_anew_give_the_same_weights(tiny: LanguageModel, tmp_path: Path) -> None:
    data, dev = probe("arb_Arab", "train", 16), probe("arb_Arab", "dev", 2)
    digests = []
    for anew in (False, True):
        folder = tmp_path / str(anew)
        train(tiny, data, dev, CLOZE, RECIPE, folder, task="probe", gradient_checkpointing=anew)
        digests.append(file_sha256(folder / "last" / WEIGHTS))
    assert digests[0] == digests[1]
    assert not tiny.network.is_gradient_checkpointing
