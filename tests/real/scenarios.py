"""Small commands of each entry point, and the stores they begin with, for `kill_points`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

Command = Callable[[Path, Path], list[str]]
LANGUAGES = "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn"


@dataclass(frozen=True)
class Scenario:
    """A command in a folder with a model, and what prepares its store.

    Facts whose names contain a text of `unlike` may be others after a kill; `check` then says what
    is wrong with them.
    """

    prepare: Callable[[Path, Path], None]
    command: Command
    unlike: tuple[str, ...] = ()
    check: Callable[[dict[str, str]], list[str]] = lambda facts: []


def _words(entry: str, **options: object) -> list[str]:
    return [entry, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def _tiny(model: Path) -> dict[str, object]:
    return {"model": str(model), "dtype": "float32", "dev_limit": 4}


def _start(words: list[str]) -> None:
    from isogloss.cli.main import program

    program.main(words, "isogloss", standalone_mode=False)


def _empty(folder: Path, model: Path) -> None:
    """A store without runs."""
    from isogloss.tracking.store import ensure_store

    ensure_store()


def _train(model: Path, **options: object) -> str:
    """Train an adapter; the id of its run."""
    from isogloss.config import FinetuneConfig
    from isogloss.stages.finetune import run_finetune

    given = {"limit": 4, "steps": 2, "batch_size": 2, "rank": 2, **options}
    return run_finetune(FinetuneConfig(**_tiny(model), **given))


def two_adapters(folder: Path, model: Path) -> None:
    _empty(folder, model)
    ids = [_train(model, seed=seed) for seed in (0, 1)]
    (folder / "adapters.txt").write_text(",".join(ids))


def _one_champion(folder: Path, model: Path) -> None:
    """Two adapters, of which the first is registered as champion."""
    two_adapters(folder, model)
    first = (folder / "adapters.txt").read_text().split(",")[0]
    _start(_words("register", adapter=first, name="reader", alias="champion"))


def _evaluations(folder: Path, model: Path) -> None:
    _empty(folder, model)
    from logged_runs import log_runs
    from synthetic_predictions import gains, tables

    log_runs(tables(gains(0.1, 0.05), n=40), study="s")


def _study(folder: Path, model: Path) -> None:
    _empty(folder, model)
    values = {
        "study": "small", "model": str(model), "dtype": "float32",
        "languages": LANGUAGES, "limit": 4,
        "finetune": {"steps": 4, "batch_size": 2, "dev_limit": 2, "rank": 2,
                     "checkpoint_every": 2, "eval_every": 4},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(values), "utf-8")


def _results(folder: Path, model: Path) -> None:
    """A CSV file of two conditions in two languages."""
    _empty(folder, model)
    import pandas as pd

    rows = [
        {"model": "m", "condition": condition, "source": "arb_Arab" if condition == "tuned" else "",
         "language": code, "item_id": str(at), "passage_id": str(at // 2), "correct": (at + (condition == "tuned")) % 3 > 0}
        for condition in ("base", "tuned")
        for code in ("heb_Hebr", "eng_Latn")
        for at in range(8)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)


def _space(folder: Path, model: Path) -> None:
    _empty(folder, model)
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "rank": 2, "steps": 2,
             "batch_size": 2}  # fmt: skip
    (folder / "space.yaml").write_text(yaml.safe_dump(space), "utf-8")


def _adapters(folder: Path) -> list[str]:
    return (folder / "adapters.txt").read_text().split(",")


def _check_search(facts: dict[str, str]) -> list[str]:
    """A killed trial stays as failed, and is tried again under another number."""
    states = [value for name, value in facts.items() if name.endswith("tag isogloss.state")]
    wrong = [name for name, value in facts.items() if value == "RUNNING" or " and " in value]
    if states.count("complete") != 2 or set(states) - {"complete", "fail"}:
        wrong.append(f"states of trials: {states}")
    return wrong


SCENARIOS = {
    "evaluate": Scenario(
        _empty,
        lambda folder, model: _words(
            "evaluate", model=model, dtype="float32", limit=4, languages="heb_Hebr,eng_Latn"
        ),
    ),
    "adapters": Scenario(
        two_adapters,
        lambda folder, model: _words(
            "evaluate", model=model, dtype="float32", limit=4, languages="heb_Hebr,eng_Latn",
            adapter=",".join(["none", *_adapters(folder)]),
        ),
    ),
    "finetune": Scenario(
        _empty,
        lambda folder, model: _words(
            "finetune", **_tiny(model), limit=8, steps=6, batch_size=2, rank=2, eval_every=2,
            checkpoint_every=2, dropout=0.2, keep="best",
        ),
    ),
    "compare": Scenario(_evaluations, lambda folder, model: _words("compare", study="s")),
    "register": Scenario(
        _one_champion,
        lambda folder, model: _words(
            "register", adapter=_adapters(folder)[1], name="reader", alias="champion"
        ),
    ),
    "main": Scenario(_study, lambda folder, model: _words("main", study=folder / "study.yaml")),
    "import": Scenario(
        _results,
        lambda folder, model: _words(
            "import", path=folder / "results.csv", task="sib200", format="letter", study="i"
        ),
    ),
    "tune": Scenario(
        _space,
        lambda folder, model: _words(
            "tune", **_tiny(model), limit=4, study="search", storage=folder / "journal", trials=2,
            space=folder / "space.yaml", pruning="false", measurements=1,
        ),
        unlike=("trial", "search.html", "finetune.yaml", "content of", "mlflow.note"),
        check=_check_search,
    ),
}  # fmt: skip
