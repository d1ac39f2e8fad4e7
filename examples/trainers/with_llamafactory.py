"""Train an adapter with LLaMA-Factory for isogloss, on the GPUs of this machine.

    engine:
      kind: command
      train: >-
        python examples/trainers/with_llamafactory.py
        examples/trainers/llamafactory.yaml {recipe} {output}

LLaMA-Factory tokenises prompt and response apart and has templates of its own. It therefore gets
the token ids and labels of isogloss, as a data set that is tokenised already (`tokenized_path`).
"""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

GPUS = 1  # LLaMA-Factory divides a step over them
DATASETS = "dataset_info.json"


def filled(config: dict[str, Any], recipe: dict[str, Any], output: Path) -> dict[str, Any]:
    """The configuration with what the recipe decides."""
    values, modules = recipe["hyperparameters"], recipe["peft"]["target_modules"]
    return {
        **config,
        "model_name_or_path": recipe["model"]["path"],
        "dataset_dir": str(output),
        "tokenized_path": str(output / "tokenized"),
        "output_dir": str(output / "adapter"),
        "max_steps": values["steps"],
        "warmup_steps": values["warmup_steps"],
        "learning_rate": values["learning_rate"],
        "seed": values["seed"],
        "lora_rank": values["rank"],
        "lora_alpha": values["alpha"],
        "lora_dropout": values["dropout"],
        "lora_target": "all" if modules == "all-linear" else ",".join(modules),
        "gradient_accumulation_steps": values["batch_size"] // GPUS,
    }


def write_data(recipe: dict[str, Any], output: Path) -> None:
    """Write the token ids as a tokenised data set, and the description of the texts."""
    from datasets import Dataset, DatasetDict

    lines = Path(recipe["files"]["train_tokens"]).read_text("utf-8").splitlines()
    rows = Dataset.from_list([json.loads(line) for line in lines])
    DatasetDict({"train": rows}).save_to_disk(str(output / "tokenized"))
    described = json.loads(Path(__file__).with_name(DATASETS).read_text("utf-8"))
    described["isogloss"]["file_name"] = recipe["files"]["train"]
    (output / DATASETS).write_text(json.dumps(described), encoding="utf-8")


def main(config_file: Path, recipe_file: Path, output: Path) -> None:
    """Write configuration and data, run LLaMA-Factory and leave the versions of the libraries."""
    recipe = json.loads(recipe_file.read_text("utf-8"))
    if recipe["peft"]["target_parameters"]:
        sys.exit("LLaMA-Factory has no LoRA on fused parameters; set target_modules=attention.")
    config = filled(yaml.safe_load(config_file.read_text("utf-8")), recipe, output)
    write_data(recipe, output)
    own = output / "llamafactory.yaml"
    own.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    subprocess.run(["llamafactory-cli", "train", str(own)], check=True)
    versions = {name: version(name) for name in ("llamafactory", "transformers", "peft", "torch")}
    (output / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
