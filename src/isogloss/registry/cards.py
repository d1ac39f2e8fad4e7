"""Model cards: what an adapter is, in the README.md that the Hub shows and MLflow keeps."""

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from isogloss.languages import language
from isogloss.models.locate import EMBEDDED, ModelLocation

CARD = "README.md"
RESULTS = "## Results"
NO_RESULTS = "Not evaluated yet: `mlflow run . -e evaluate --env-manager local -P adapter=RUN_ID`."


@dataclass(frozen=True)
class Result:
    """One language of one evaluation: accuracies are fractions, NaN where not known."""

    task: str
    split: str
    reasoning: str
    language: str
    base: float
    tuned: float
    standard_error: float
    items: int
    run_id: str


def licence_of(base: ModelLocation) -> str:
    """The licence that a base model's own card states, as the Hub writes it, or `unknown`."""
    if base.name == EMBEDDED:
        return "gemma"
    try:
        text = (base.folder / CARD).read_text("utf-8")
        stated = yaml.safe_load(text.split("---")[1])["license"]
    except (OSError, IndexError, KeyError, TypeError, yaml.YAMLError):
        return "unknown"
    return str(stated)


def git_commit() -> str:
    """The commit of the code, or `unknown` outside a repository."""
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"


def card(
    *,
    base: ModelLocation,
    tags: Mapping[str, str | None],
    recipe: str,
    dev: Mapping[str, float],
    dev_items: int,
    step: int,
    command: str,
    commit: str,
) -> str:
    """The card of a new adapter, without results in other languages."""
    source = language(str(tags["source"]))
    licence = licence_of(base)
    header: dict[str, Any] = {
        "library_name": "peft",
        "base_model": base.name,
        "license": licence if licence != "unknown" else "other",
        "language": [source.code.split("_")[0]],
        "tags": ["isogloss", "lora", "multiple-choice", "reading-comprehension"],
        "pipeline_tag": "text-generation",
    }
    if base.name == EMBEDDED:
        header["base_model"] = "google/gemma-3-270m"
    return f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# {base.name} tuned on {source.name} ({tags["task"]})

A LoRA adapter, made to measure how far tuning on {source.name} carries over to other languages.

| | |
|---|---|
| base model | {base.name}, revision `{base.revision}` |
| licence of the base | {licence} (the adapter is a derivative of it) |
| training data | {tags["task"]}, {source.name} (`{source.code}`), digest `{tags["data_digest"]}` |
| format | {tags["format"]}, prompts in {tags["prompt_language"]}, chat template: {tags["chat"]} |
| training | {recipe}; loss on answer tokens only; adapter after step {step} |
| dev data | {source.name}, {dev_items} items: accuracy {dev["accuracy"]:.3f}, gold \
log-probability {dev["gold_logprob"]:.3f} nats |
| code | commit `{commit}` |
| fingerprint | `{tags["fingerprint"]}` |

## Intended use

Research on transfer between languages: multiple-choice questions on short passages, put to the
model in the format above. It has not been tested for anything else, was tuned on one language and
one task, and inherits what its base model gets wrong. What it was trained on is recorded as hashes
in `trained_on.json`; evaluations on the same passages in any language are contaminated.

## Made by

```sh
{command}
```

{RESULTS}

{NO_RESULTS}
"""


def with_results(text: str, results: Sequence[Result]) -> str:
    """The card with a table of accuracy in each language, in place of the one it has."""
    if not results:
        return text
    lines = [
        "| task | split | reasoning | language | items | base | tuned | standard error | run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        base = "" if math.isnan(one.base) else f"{one.base:.3f}"
        error = "" if math.isnan(one.standard_error) else f"{one.standard_error:.3f}"
        lines.append(
            f"| {one.task} | {one.split} | {one.reasoning} | {language(one.language).name} "
            f"(`{one.language}`) | {one.items} | {base} | {one.tuned:.3f} | {error} | "
            f"`{one.run_id[:8]}` |"
        )
    table = "\n".join(lines)
    explained = "Accuracy, a fraction of the items; standard error of the tuned one, by passage."
    before, _, _ = text.partition(RESULTS)
    return f"{before}{RESULTS}\n\n{explained}\n\n{table}\n"


def without_header(text: str) -> str:
    """The card as Markdown, without the YAML that the Hub reads."""
    return text.split("---", 2)[2].strip()
