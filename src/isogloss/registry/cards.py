"""Model cards: the README.md of an adapter, which the Hub and MLflow show."""

import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from isogloss.errors import DataError
from isogloss.formatting import shortened
from isogloss.languages import language, source_languages, source_name
from isogloss.models.locate import EMBEDDED, ModelLocation
from isogloss.tracking import RunTags
from isogloss.training.early_stopping import DevScore
from isogloss.types import LanguageCode
from isogloss.yaml_files import load_yaml

CARD = "README.md"
NOTE = "mlflow.note.content"  # what MLflow shows as the description of a logged model
HEADER = re.compile(r"---\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)  # YAML before the Markdown
RESULTS = "## Results"


@dataclass(frozen=True)
class CardFacts:
    """What a card says about a new adapter.

    `dev` is its score on `dev_items` source-language items after `step`, None if it was not
    measured; `command` trains it again. `run_id` is that of its finetune run.
    """

    base: ModelLocation
    tags: RunTags
    recipe: str
    dev: DevScore | None
    dev_items: int
    step: int
    command: str
    commit: str
    run_id: str


@dataclass(frozen=True)
class Result:
    """Accuracy in one language in one evaluation: fractions, NaN where unknown."""

    task: str
    split: str
    reasoning: str
    language: LanguageCode
    base: float
    tuned: float
    standard_error: float
    items: int
    run_id: str


def licence_of(base: ModelLocation) -> str:
    """The licence in the base model's own card, as the Hub writes it, or `unknown`."""
    if base.name == EMBEDDED:
        return "gemma"
    try:
        text = (base.folder / CARD).read_text("utf-8")
        header = HEADER.match(text)
        content = load_yaml(header[1], CARD) if header else None
    except (OSError, UnicodeDecodeError, DataError):
        return "unknown"
    licence = content.get("license") if isinstance(content, dict) else None
    return shortened(str(licence)) if licence else "unknown"


def git_commit() -> str:
    """The commit of the code, or `unknown` outside a repository."""
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return git.stdout.strip() or "unknown"


def card(facts: CardFacts) -> str:
    """The card of a new adapter, without results in other languages."""
    base, tags = facts.base, facts.tags
    source = source_name(str(tags.source))
    licence = licence_of(base)
    header = {
        "library_name": "peft",
        "base_model": base.name,
        "license": licence if licence != "unknown" else "other",
        "language": sorted({row.code[:3] for row in source_languages(str(tags.source))}),
        "tags": ["isogloss", "lora", "multiple-choice", "reading-comprehension"],
        "pipeline_tag": "text-generation",
    }
    if base.name == EMBEDDED:
        header["base_model"] = "google/gemma-3-270m"
    chat = str(tags.chat).lower()
    labels = f", options labelled by {tags.answer_labels}" if tags.answer_labels else ""
    return f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# {base.name} tuned on {source} ({tags.task})

A LoRA adapter, trained to measure how far fine-tuning on {source} transfers to other \
languages.

| | |
|---|---|
| base model | {base.name}, revision `{base.revision}` |
| licence of the base | {licence} (the adapter is a derivative of it) |
| training data | {tags.task}, {source} (`{tags.source}`), digest `{tags.data_digest}` |
| format | {tags.format}{labels}, prompts in {tags.prompt_language}, chat template: {chat} |
| training | {facts.recipe}; loss on answer tokens only; adapter after step {facts.step} |
| dev data | {_dev(facts, source)} |
| code | commit `{facts.commit}` |
| fingerprint | `{tags.fingerprint}` |

## Intended use

Research on transfer between languages: multiple-choice questions about short passages, asked in the
format above. The adapter is not tested for anything else. It was trained on one language and one
task, and it has the errors of its base model. `trained_on.json` has hashes of the training data;
an evaluation on the same passages, in any language, is contaminated.

## Made by

```sh
{facts.command}
```

{RESULTS}

Registration adds what is known by then. Other languages are measured by

```sh
mlflow run . -e evaluate --env-manager local -P adapter={facts.run_id}
```
"""


def _dev(facts: CardFacts, source: str) -> str:
    if facts.dev is None:
        return "not measured"
    return (
        f"{source}, {facts.dev_items} items: accuracy {facts.dev.accuracy:.3f}, gold "
        f"log-probability {facts.dev.gold_logprob:.3f} nats"
    )


def with_results(text: str, results: Sequence[Result]) -> str:
    """The card with its results replaced by a table of per-language accuracies."""
    if not results:
        return text
    lines = [
        "| task | split | reasoning | language | items | base | tuned | standard error | run |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(result) for result in results),
    ]
    table = "\n".join(lines)
    caption = (
        "Accuracy, a fraction of the items. The standard error is that of the tuned accuracy, "
        "clustered by passage."
    )
    before, _, _ = text.partition(RESULTS)
    return f"{before}{RESULTS}\n\n{caption}\n\n{table}\n"


def _row(result: Result) -> str:
    base = "" if math.isnan(result.base) else f"{result.base:.3f}"
    error = "" if math.isnan(result.standard_error) else f"{result.standard_error:.3f}"
    name = f"{language(result.language).name} (`{result.language}`)"
    return (
        f"| {result.task} | {result.split} | {result.reasoning} | {name} | {result.items} | "
        f"{base} | {result.tuned:.3f} | {error} | `{result.run_id[:8]}` |"
    )


def without_header(text: str) -> str:
    """The card as Markdown, without its YAML header for the Hub."""
    header = HEADER.match(text)
    return text[header.end() :].strip() if header else text.strip()
