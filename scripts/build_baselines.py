"""Write base models of different strength, all made from one model.

The claim that weak base models gain most compares models. These differ in strength only: they are
the embedded model after 0, 4, 8, 16, 32, 64 and 128 steps of fine-tuning on a language that is
neither source nor target of the study, each with its adapter merged into it. `baseline.json` in
each folder says how it was made. From the root of the repository:

    PYTHONPATH=src python -m scripts.build_baselines --data_dir FOLDER
    mlflow run . --env-manager local -P study=configs/baselines.yaml -P data_dir=FOLDER

The fine-tunings are runs of the experiment `baselines` and are reused.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import click
import mlflow
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from isogloss import logs
from isogloss.cli.command import user_errors
from isogloss.config import FinetuneConfig, command_line
from isogloss.files import whole_folder
from isogloss.models.adapters import attach, detach
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation
from isogloss.registry.lookup import adapter_folder
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.tracking import tag

STEPS = (0, 4, 8, 16, 32, 64, 128)
RECIPE = "baseline.json"


def build(out: Path, base: FinetuneConfig, steps: Sequence[int]) -> list[Path]:
    """Write one model folder per number of steps; folders made by the same recipe are kept.

    `base` is the fine-tuning without its number of steps.
    """
    session = Session.of(base)
    folders = []
    for number in steps:
        folder = out / f"step-{number:03}"
        recipe: dict[str, object] = {
            "base": session.location.name,
            "base_revision": session.location.revision,
            "steps": number,
        }
        adapter = None
        if number:
            config = base.model_copy(update={"steps": number})
            run = finetune(config, session, f"{number} steps")
            adapter = run.info.run_id
            recipe |= {
                "command": command_line("finetune", config),
                "adapter": tag(run, "adapter"),
                "language": config.source,
            }
        folders.append(folder)
        path = folder / RECIPE
        if path.is_file() and json.loads(path.read_text("utf-8")) == recipe:
            continue
        with nullcontext() if adapter is None else adapter_folder(adapter) as weights:
            merge(session.location, weights, folder)
        path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    return folders


def merge(base: ModelLocation, adapter: Path | None, folder: Path) -> None:
    """Write the base model in float32, with an adapter merged into it, and its tokenizer."""
    model = load(base, "float32")
    network = cast(PreTrainedModel, model.network)
    if adapter is not None:
        attach(model, adapter)  # raises unless the adapter is applied as a whole
        detach(model)  # a pair of fused layers cannot be merged
        network = PeftModel.from_pretrained(model.module, adapter).merge_and_unload()
    with whole_folder(folder) as unfinished:
        network.save_pretrained(unfinished)
        cast(PreTrainedTokenizerBase, model.tokenizer).save_pretrained(unfinished)


@click.command(help=__doc__)
@click.option("--out", default="baselines", show_default=True, type=click.Path(path_type=Path))
@click.option("--data_dir", default=None, help="Folder with SIB-200; without it: from the Hub.")
@click.option("--source", default="kor_Hang", show_default=True, help="Language to fine-tune on.")
@click.option("--model", default="embedded", show_default=True)
def main(out: Path, data_dir: str | None, source: str, model: str) -> None:
    """Build the baselines."""
    logs.configure()
    with user_errors():
        base = FinetuneConfig.model_validate(
            {
                "model": model,
                "task": "sib200",
                "data_dir": data_dir,
                "source": source,
                "format": "cloze",
                "learning_rate": 2e-4,
                "dev_limit": 16,
                "eval_every": 128,
            }
        )
        mlflow.set_experiment("baselines")
        for folder in build(out, base, STEPS):
            click.echo(folder)


if __name__ == "__main__":
    main()
