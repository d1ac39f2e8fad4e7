"""Runs lm-evaluation-harness on a folder of Belebele files, one language at a time.

Prompt, choices, target and metrics are those of the installed lm-eval: each task includes its
Belebele template and replaces only the location of the documents.
"""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import click
import yaml

# Tokenizer threads compete with those of torch. glibc keeps the gigabyte of logits for the next
# batch instead of returning it to the kernel, which saves a quarter of the time.
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 34),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 35),
    "THP_MEM_ALLOC_ENABLE": "1",
}


def belebele_template() -> Path:
    """The Belebele template of the installed lm-eval."""
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise click.ClickException("lm-eval is not installed; see benchmarks/README.md.")
    return Path(spec.origin).parent / "tasks" / "belebele" / "_default_template_yaml"


def task_config(documents: Path) -> dict[str, object]:
    """The lm-eval task of one file of documents, zero-shot, named `local_belebele_CODE`."""
    return {
        "include": str(belebele_template()),
        "task": f"local_belebele_{documents.stem}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(documents.resolve())}},
        "test_split": "test",
        "num_fewshot": 0,
    }


def run_language(
    documents: Path, model: Path, out: Path, indices: range | None, batch_size: int
) -> None:
    """Evaluate one language's documents (None: all) and write the samples to `out`."""
    config = task_config(documents)
    tasks = out / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    (tasks / f"{documents.stem}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32"]
    command += ["--include_path", str(tasks), "--tasks", str(config["task"])]
    command += ["--batch_size", str(batch_size), "--log_samples"]
    command += ["--output_path", str(out / documents.stem)]
    if indices is not None:
        command += ["--samples", json.dumps({config["task"]: list(indices)})]
    subprocess.run(command, env=os.environ | ENVIRONMENT, check=True)


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("model", type=FOLDER)
@click.argument("data_dir", type=FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--languages", default="all", help="Codes separated by commas, or all.")
@click.option("--first", type=click.IntRange(0), default=0, help="Index of the first document.")
@click.option("--last", type=click.IntRange(1), help="Index after the last document; default: all.")
@click.option("--batch-size", type=click.IntRange(1), default=2, show_default=True)
def main(
    model: Path,
    data_dir: Path,
    out: Path,
    languages: str,
    first: int,
    last: int | None,
    batch_size: int,
) -> None:
    """Score the CODE.jsonl files of DATA_DIR under the model in the folder MODEL, into OUT."""
    files = sorted(data_dir.glob("*.jsonl"))
    if languages != "all":
        files = [data_dir / f"{code}.jsonl" for code in languages.split(",")]
    missing = [str(path) for path in files if not path.is_file()]
    if missing or not files:
        raise click.ClickException(f"no {', '.join(missing) or 'CODE.jsonl'} in {data_dir}.")
    for documents in files:
        count = sum(1 for line in documents.read_text(encoding="utf-8").split("\n") if line)
        indices = range(first, min(count, last or count))
        started = time.monotonic()
        run_language(documents, model, out, None if len(indices) == count else indices, batch_size)
        seconds = time.monotonic() - started
        click.echo(f"{documents.stem}: {len(indices)} documents in {seconds:.0f} s")


if __name__ == "__main__":
    main()
