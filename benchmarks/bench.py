"""The benchmark suite: isogloss and lm-evaluation-harness, vLLM, TRL, Trainer and `generate`.

Contenders take turns, and each measurement has its own process. Results are written after every
measurement, in a file for each kind of processor. This process stays small (no torch), because
Linux counts the memory of the parent at the time of the fork in the peak of the child.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import click

from benchmarks.lines import draw
from benchmarks.lm_eval_belebele import ENVIRONMENT
from benchmarks.plan import MATMUL, PARTS, QUICK, UNTUNED, VLLM, Job, Sizes, jobs
from benchmarks.table import markdown

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".bench" / "work"
VLLM_FOLDER = Path(os.environ.get("ISOGLOSS_VLLM", ROOT / ".vllm"))
LANGUAGES = ("eng_Latn", "arb_Arab", "fra_Latn", "ind_Latn", "rus_Cyrl", "tur_Latn")
DTYPES = ("bfloat16", "float32")
FLAGS = ("avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


class ProcessorKind(StrEnum):
    """How a processor multiplies bfloat16 matrices; results of different kinds do not compare."""

    AMX = "amx"  # with matrix units
    AVX512_BF16 = "avx512_bf16"  # with vector instructions
    NO_BF16 = "no_bf16"  # not at all


def processor_kind(flags: Sequence[str]) -> ProcessorKind:
    """The kind of a processor with these CPU flags."""
    if "amx_bf16" in flags:
        return ProcessorKind.AMX
    return ProcessorKind.AVX512_BF16 if "avx512_bf16" in flags else ProcessorKind.NO_BF16


def machine() -> dict[str, Any]:
    """Processor and its kind, cores, memory, CPU flags for bfloat16, commit and current load."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    values = {name.strip(): value.strip() for name, value in pairs}
    flags = values.get("flags", "").split()
    git = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "processor": values.get("model name", "unknown processor"),
        "kind": processor_kind(flags),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "flags": [flag for flag in FLAGS if flag in flags],
        "commit": commit.strip() or "unknown",
        "load": os.getloadavg()[0],
    }


def environment(script: str, contender: str | None) -> dict[str, str]:
    """Peers get the variables that speed them up, except the untuned one; isogloss runs with a
    user's environment.
    """
    common = {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    common |= {"HF_DATASETS_CACHE": str(WORK / "datasets"), "TRANSFORMERS_VERBOSITY": "error"}
    peers = script not in ("isogloss_runs", "prepare") and contender != UNTUNED
    return {**os.environ, **common, **(ENVIRONMENT if peers else {})}


def run(script: str, job: dict[str, Any]) -> dict[str, Any]:
    """The result of a contender's process, or `error` with its last line on stderr."""
    job_file, result = WORK / "job.json", WORK / "result.json"
    job_file.write_text(json.dumps(job), "utf-8")
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.contenders.{script}", str(job_file), str(result)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(script, job.get("contender")),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["nothing on stderr"]
        (WORK / "stderr.txt").write_text(done.stderr, "utf-8")
        return {"error": f"exit {done.returncode}: {lines[-1][:300]}"}
    return dict(json.loads(result.read_text("utf-8")))


def summary(measured: dict[str, Any]) -> str:
    """A measurement in one short line."""
    if "error" in measured:
        return str(measured["error"])
    if "tried" in measured:
        return f"best with {measured['best']}"
    cores = f"on {measured['cpu_seconds'] / measured['seconds']:.1f} cores"
    if "body" in measured:
        body, head = (measured[name] / 1e9 for name in ("body", "head"))
        return f"{body:,.0f} GFLOP/s {cores}, head {head:,.0f}"
    return f"{measured['seconds']:.2f} s {cores}, {measured['peak_mb']:,.0f} MB"


class Results:
    """The results of a kind of processor in a folder, a page and a figure.

    The first is rewritten after each measurement.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], resume: bool):
        self.values: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "settings": settings,
            "measurements": [],
        }
        kind = self.values["machine"]["kind"]
        self.path, self.page = folder / f"results-{kind}.json", folder / f"RESULTS-{kind}.md"
        self.figure = folder / f"lines-{kind}.svg"
        if resume and self.path.is_file():
            earlier = json.loads(self.path.read_text("utf-8"))
            same = ("processor", "cores", "flags", "commit")
            if earlier["settings"] != settings or any(
                earlier["machine"][name] != self.values["machine"][name] for name in same
            ):
                raise click.ClickException(
                    f"{self.path} was measured with other settings, on another machine or at "
                    "another commit; start over without --resume."
                )
            earlier["measurements"] = [
                measured for measured in earlier["measurements"] if "error" not in measured
            ]
            self.values = earlier

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The measurement with that key, if there is one."""
        for measured in self.values["measurements"]:
            if all(measured[name] == value for name, value in key.items()):
                return dict(measured)
        return None

    def best(self, contender: str, dtype: str | None = None) -> str | None:
        """The fastest setting of a peer, in a dtype or in the one tried; None if none was tried."""
        key = {"part": "settings", "contender": contender}
        tried = self.find(key | ({} if dtype is None else {"dtype": dtype}))
        return tried.get("best") if tried else None

    def add(self, measured: dict[str, Any]) -> None:
        """Add a measurement and write the file."""
        self.values["measurements"].append(measured)
        self.write()

    def write(self) -> None:
        """Write the results atomically."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.values, indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(self.path)

    def publish(self) -> str:
        """Write the page and the figure; return the page."""
        drawn = draw(self.values["measurements"], self.figure)
        page = markdown(self.values, self.figure.name if drawn else None)
        self.page.write_text(page, "utf-8")
        return page


def job_input(job: Job, results: Results, prepared: dict[str, Any]) -> dict[str, Any]:
    """The input of the contender's process."""
    inputs = {**job.key, **job.options, "model": prepared["model"], "languages": LANGUAGES}
    if job.part == MATMUL:
        inputs["config"] = prepared["config"]
    if job.contender == "lm-eval":
        inputs["setting"] = results.best("lm-eval", job.dtype) or "weights, batch 2"
    if job.contender == VLLM and "limit" not in inputs:
        inputs["setting"] = results.best(VLLM, job.dtype) or "32 requests, nobind"
    if job.contender in ("TRL", "Trainer"):
        inputs["setting"] = results.best(job.contender)
    return inputs


def only(planned: Sequence[Job], contenders: Sequence[str]) -> list[Job]:
    """The jobs of some contenders, and the machine's speed of products beside them.

    Raises ClickException for a contender that has no job.
    """
    known = dict.fromkeys(job.contender for job in planned if job.part != MATMUL)
    if unknown := set(contenders) - set(known):
        names = ", ".join(sorted(unknown))
        raise click.ClickException(f"no contender {names} here; there are {', '.join(known)}.")
    return [job for job in planned if job.part == MATMUL or job.contender in contenders]


@click.command()
@click.option(
    "--data-dir",
    envvar="ISOGLOSS_TEST_DATA",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with belebele/CODE.jsonl and sib200/CODE/*.tsv; default: $ISOGLOSS_TEST_DATA.",
)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Separated by commas.")
@click.option("--contenders", help="Separated by commas, such as isogloss,vLLM [all].")
@click.option("--rounds", type=click.IntRange(1), help="Rounds per contender, in all parts.")
@click.option("--letter-items", type=click.IntRange(1), help="Belebele items scored by letter.")
@click.option("--cloze-items", type=click.IntRange(1), help="Belebele items scored by option text.")
@click.option(
    "--dtypes",
    help="Separated by commas [float32, and bfloat16 if the processor has instructions for it]",
)
@click.option("--quick", is_flag=True, help="A few items of each, in float32.")
@click.option("--resume", is_flag=True, help="Resume an interrupted run.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of results-KIND.json, RESULTS-KIND.md and lines-KIND.svg, for the kind of this "
    "processor [benchmarks; with --quick .bench/quick]",
)
@click.option(
    "--vllm",
    default=lambda: shutil.which(str(VLLM_FOLDER / "bin" / "vllm")),
    type=click.Path(exists=True, dir_okay=False),
    help="vLLM's program [that of `make install-vllm`, or of $ISOGLOSS_VLLM; left out without it]",
)
def main(
    data_dir: Path,
    parts: str,
    contenders: str | None,
    rounds: int | None,
    letter_items: int | None,
    cloze_items: int | None,
    dtypes: str | None,
    quick: bool,
    resume: bool,
    out: Path | None,
    vllm: str | None,
) -> None:
    """Measure isogloss and its peers in turns and write the table of results.

    A new call starts over and replaces the last results of this kind of processor. With --resume
    and the same options and commit it resumes an interrupted run.
    """
    chosen = tuple(parts.split(","))
    if unknown := set(chosen) - set(PARTS):
        raise click.ClickException(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}.")
    sizes = QUICK if quick else Sizes()
    if dtypes is not None:
        sizes = replace(sizes, dtypes=tuple(dtypes.split(",")))
    elif machine()["kind"] == ProcessorKind.NO_BF16:
        sizes = replace(sizes, dtypes=("float32",))
    if unknown := set(sizes.dtypes) - set(DTYPES):
        raise click.ClickException(f"no dtype {', '.join(unknown)}; there are {', '.join(DTYPES)}.")
    if rounds is not None:
        sizes = replace(sizes, rounds=rounds, training_rounds=rounds, line_rounds=rounds)
    if letter_items is not None:
        sizes = replace(sizes, letter=letter_items, letter_again=letter_items)
    if cloze_items is not None:
        sizes = replace(sizes, cloze=cloze_items, cloze_again=cloze_items)
    folder = out or (ROOT / ".bench" / "quick" if quick else ROOT / "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    settings: dict[str, Any] = {"sizes": sizes.to_dict(), "parts": list(chosen)}
    if contenders is not None:
        settings["contenders"] = contenders.split(",")
    results = Results(folder, settings, resume)
    click.echo("preparing items")
    inputs = {"data": str(data_dir), "work": str(WORK), "sizes": sizes.to_dict()}
    prepared = run("prepare", inputs | {"languages": LANGUAGES})
    if "error" in prepared:
        raise click.ClickException(f"preparation failed: {prepared['error']}")
    results.values |= {"work": prepared["work"], "config": prepared["config"]}
    planned = list(jobs(chosen, sizes, str(WORK), str(data_dir), vllm))
    if contenders is not None:
        planned = only(planned, contenders.split(","))
    for number, job in enumerate(planned, start=1):
        name = " ".join(filter(None, (job.part, job.case, job.dtype, job.contender)))
        line = f"[{number}/{len(planned)}] {name}, round {job.round + 1}"
        if results.find(job.key):
            click.echo(f"{line}: already measured")
            continue
        load = os.getloadavg()[0]
        measured = run(job.script, task := job_input(job, results, prepared))
        extra = {"load": load} | ({"setting": task["setting"]} if task.get("setting") else {})
        if "dtype" in measured:
            extra["dtype_used"] = measured["dtype"].removeprefix("torch.")
        results.add({**measured, **job.key, **extra})
        click.echo(f"{line}: {summary(measured)} (load {load:.1f})")
    click.echo(results.publish())
    click.echo(f"{results.page} after {(time.monotonic() - started) / 60:.1f} min")
    if any("error" in measured for measured in results.values["measurements"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
