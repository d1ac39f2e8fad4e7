"""Train an adapter with TRL for isogloss: copy this file and change what you need.

In a study file, or after `-P engine=` on the command line:

    engine: {kind: command, train: "python examples/train_with_trl.py {recipe} {output}"}

The file of the recipe names the data. Its token ids and labels are those that isogloss itself would
train on: TRL takes them as they are, and appends no token to an answer.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

# transformers 5.23 renamed gradient_checkpointing, whose name is gone with version 6.
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in SFTConfig.__dataclass_fields__
)


def trainer_of(recipe: dict[str, Any], output: Path) -> SFTTrainer:
    """TRL's trainer with the recipe of isogloss."""
    values, files = recipe["hyperparameters"], recipe["files"]
    base = recipe["model"]["path"]
    data = load_dataset(
        "json",
        data_files={"train": files["train_tokens"], "dev": files["dev_tokens"]},
        cache_dir=str(output / "cache"),
    )
    settings = SFTConfig(
        output_dir=str(output),
        max_steps=values["steps"],
        per_device_train_batch_size=values["batch_size"],
        learning_rate=values["learning_rate"],
        lr_scheduler_type=values["schedule"],
        warmup_steps=values["warmup_steps"],
        weight_decay=values["weight_decay"],
        max_grad_norm=values["max_gradient_norm"],
        seed=values["seed"],
        max_length=None,  # isogloss has checked the lengths; TRL would cut at 1,024 tokens
        packing=False,
        bf16=torch.cuda.is_available(),
        **{CHECKPOINTING: torch.cuda.is_available()},
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        logging_steps=1,
        report_to="none",
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=values["rank"],
        lora_alpha=values["alpha"],
        lora_dropout=values["dropout"],
        target_modules=recipe["peft"]["target_modules"],
        target_parameters=recipe["peft"]["target_parameters"],
    )
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
        args=settings,
        train_dataset=data["train"],
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=lora,
    )


def train(recipe_file: Path, output: Path) -> SFTTrainer:
    """Train, and leave the adapter and the versions of the libraries in `output`."""
    trainer = trainer_of(json.loads(recipe_file.read_text("utf-8")), output)
    trainer.train()
    trainer.save_model(str(output))
    versions = {name: version(name) for name in ("trl", "transformers", "peft", "torch")}
    (output / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    return trainer


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]))
