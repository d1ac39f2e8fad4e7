"""Train an adapter with axolotl for isogloss, on the GPUs of this machine.

    engine:
      kind: command
      train: >-
        python examples/trainers/with_axolotl.py
        examples/trainers/axolotl.yaml {recipe} {output}

axolotl takes the token ids and labels as they are (a data set without `type`), so that it trains on
what isogloss evaluates.
"""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

GPUS = 1  # axolotl divides a step over them


def filled(config: dict[str, Any], recipe: dict[str, Any], output: Path) -> dict[str, Any]:
    """The configuration with what the recipe decides."""
    values, modules = recipe["hyperparameters"], recipe["peft"]["target_modules"]
    return {
        **config,
        "base_model": recipe["model"]["path"],
        "datasets": [{"path": recipe["files"]["train_tokens"], "ds_type": "json"}],
        "dataset_prepared_path": str(output / "prepared"),
        "output_dir": str(output),
        "max_steps": values["steps"],
        "warmup_steps": values["warmup_steps"],
        "learning_rate": values["learning_rate"],
        "seed": values["seed"],
        "lora_r": values["rank"],
        "lora_alpha": values["alpha"],
        "lora_dropout": values["dropout"],
        **({"lora_target_linear": True} if modules == "all-linear" else {}),
        **({"lora_target_modules": modules} if modules != "all-linear" else {}),
        "micro_batch_size": 1,
        "gradient_accumulation_steps": values["batch_size"] // GPUS,
    }


def main(config_file: Path, recipe_file: Path, output: Path) -> None:
    """Write the configuration, run axolotl and leave the versions of the libraries."""
    recipe = json.loads(recipe_file.read_text("utf-8"))
    if recipe["peft"]["target_parameters"]:
        sys.exit("axolotl.yaml has no LoRA on fused parameters; set target_modules=attention.")
    config = filled(yaml.safe_load(config_file.read_text("utf-8")), recipe, output)
    own = output / "axolotl.yaml"
    own.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    subprocess.run(["axolotl", "train", str(own)], check=True)
    versions = {name: version(name) for name in ("axolotl", "transformers", "peft", "torch")}
    (output / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
