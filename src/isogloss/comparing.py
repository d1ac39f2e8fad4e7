"""The compare step: pull two evaluate runs, judge them, log the report as a run of its own."""

import os
import tempfile
from pathlib import Path

import mlflow
import torch
import transformers
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss import __version__, tracking
from isogloss.comparison import compare, metrics
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.languages import language
from isogloss.progress import announce
from isogloss.report import figures, write

MUST_AGREE = (
    *("model", "task", "format", "normalisation", "prompt_version", "prompt_language", "chat"),
    *("data_digest", "dtype"),
)
REPORT = "report/report.html"


def compare_runs(
    base: Run, tuned: Run, config: CompareConfig, experiment: str | None = None
) -> Run:
    """Compare two evaluate runs; return the run with verdict, numbers, figures and report.

    `experiment` is where that run goes. Raises ComparisonError if the two differ in more than the
    adapter and chain of thought.
    """
    for name in MUST_AGREE:
        here, there = (_tag(run, name) for run in (base, tuned))
        if here != there:
            raise ComparisonError(
                f"runs may not be compared: {name} is {here!r} in base run {base.info.run_id} and "
                f"{there!r} in tuned run {tuned.info.run_id}."
            )
    source = config.source or _tag(tuned, "source") or "arb_Arab"
    fingerprint = tracking.fingerprint(
        kind="compare",
        base=_tag(base, "fingerprint"),
        tuned=_tag(tuned, "fingerprint"),
        source=source,
        branch=config.branch,
        margin=config.margin,
        version=__version__,
    )
    if found := tracking.find_finished(
        "compare", fingerprint, tracking.choose_experiment(experiment)
    ):
        announce(f"compare: reusing run {found.info.run_id}")
        tracking.note_reuse(found, config.study)
        return found
    frames = [tracking.read_predictions(run.info.run_id) for run in (base, tuned)]
    comparison = compare(
        *frames,
        source=source,
        margin=config.margin,
        branch=config.branch,
        change=_change(base, tuned, source),
    )
    tags = {
        name: _tag(tuned, name) for name in ("model", "adapter", "task", "format", "reasoning")
    } | {
        "source": source,
        "condition": _tag(tuned, "condition"),
        "study": config.study,
        "fingerprint": fingerprint,
        "verdict": comparison.accuracy.verdict,
        "base_run": base.info.run_id,
        "tuned_run": tuned.info.run_id,
    }
    provenance = {
        "model": _tag(tuned, "model") or "",
        "adapter (sha256)": _tag(tuned, "adapter") or "",
        "base run": base.info.run_id,
        "tuned run": tuned.info.run_id,
        "study": config.study or "none",
        "test data (sha256)": _tag(tuned, "data_digest") or "",
        "prompt version": _tag(tuned, "prompt_version") or "",
        "matrix products": _tag(tuned, "dtype") or "",
        "versions": f"isogloss {__version__}, mlflow {mlflow.__version__}, "
        f"transformers {transformers.__version__}, torch {torch.__version__}",
    }
    with (
        tracking.run("compare", _name(base, tuned), config, tags, experiment) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        write(comparison, Path(folder), provenance)
        mlflow.log_artifacts(folder, "report")
        for name, figure in figures(comparison).items():
            mlflow.log_figure(figure, f"figures/{name}.png")
        mlflow.log_metrics(metrics(comparison))
        mlflow.set_tag("mlflow.note.content", comparison.paragraph)
    return mlflow.get_run(run.info.run_id)


def _name(base: Run, other: Run) -> str:
    conditions = [run.data.tags["isogloss.condition"] for run in (base, other)]
    return "compare" if conditions == ["base", "tuned"] else f"compare {' to '.join(conditions)}"


def _change(base: Run, other: Run, source: str) -> str:
    """What the other condition has that the base has not."""
    changes = []
    if _tag(other, "adapter") != _tag(base, "adapter"):
        tuned = _tag(other, "adapter") != "none"
        changes.append(f"{'' if tuned else 'no '}fine-tuning on {language(source).name}")
    if _tag(other, "reasoning") != _tag(base, "reasoning"):
        changes.append(
            "chain of thought" if _tag(other, "reasoning") == "cot" else "no chain of thought"
        )
    if not changes:
        raise ComparisonError(
            f"runs {base.info.run_id} and {other.info.run_id} are of the same condition, "
            f"{_tag(base, 'condition')!r}."
        )
    return " and ".join(changes)


def find_runs(config: CompareConfig) -> tuple[Run, Run]:
    """The two runs to compare, the judged one second: those named, else the ones of the study.

    Raises ComparisonError if one is missing, or if there are several to choose from.
    """
    if config.against == config.condition:
        raise ConfigError(f"condition {config.condition!r} cannot be compared with itself.")
    chosen = {config.against: ("base", config.base), config.condition: ("tuned", config.tuned)}
    pool = [] if config.base and config.tuned else _evaluate_runs(config)
    pair = []
    for condition, (name, run_id) in chosen.items():
        if run_id is not None:
            pair.append(_evaluate_run(run_id, condition))
            continue
        where = f"study {config.study!r}" if config.study else "the experiment"
        candidates = {
            _tag(run, "fingerprint"): run for run in pool if _tag(run, "condition") == condition
        }
        if not candidates:
            raise ComparisonError(f"{where} has no finished evaluate run of condition {condition}.")
        if len(candidates) > 1:
            listed = ", ".join(run.info.run_id for run in candidates.values())
            raise ComparisonError(
                f"{where} has {len(candidates)} different evaluate runs of condition {condition}; "
                f"choose one with {name}=ID among {listed}."
            )
        pair.extend(candidates.values())
    return pair[0], pair[1]


def _evaluate_run(run_id: str, condition: str) -> Run:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise ComparisonError(f"{condition} {run_id!r} is not the id of a run.") from error
    if _tag(run, "kind") != "evaluate":
        raise ComparisonError(f"{condition} run {run_id!r} is not an evaluate run.")
    if _tag(run, "condition") != condition:
        raise ComparisonError(
            f"{condition} run {run_id!r} is of condition {_tag(run, 'condition')!r}."
        )
    return run


def _evaluate_runs(config: CompareConfig) -> list[Run]:
    """Finished evaluate runs of the study (of the experiment, without one).

    A study that was run as a whole has those that its newest run made or reused; otherwise they
    are those that carry its name.
    """
    if config.experiment is None:
        experiment_id = tracking.choose_experiment(None)
    else:
        experiment = mlflow.get_experiment_by_name(config.experiment)
        if experiment is None:
            raise ComparisonError(f"there is no experiment {config.experiment!r}.")
        experiment_id = str(experiment.experiment_id)

    def search(kind: str) -> list[Run]:
        wanted = f"tags.`isogloss.kind` = '{kind}' AND attributes.status = 'FINISHED'"
        found: list[Run] = mlflow.search_runs(
            [experiment_id], filter_string=wanted, output_format="list"
        )
        return [
            run for run in found if not config.study or config.study in tracking.studies_of(run)
        ]

    if config.study and (studies := search("study")):
        return [mlflow.get_run(run_id) for run_id in (_tag(studies[0], "cells") or "").split()]
    return [run for run in search("evaluate") if _tag(run, "fingerprint")]


def _tag(run: Run, name: str) -> str | None:
    value: str | None = run.data.tags.get(f"isogloss.{name}")
    return value


def print_verdict(run: Run) -> None:
    """Print the verdict in one paragraph and where the report is."""
    print(f"\n{run.data.tags['mlflow.note.content']}\n")
    print(f"report: {tracking.artifact_path(run, REPORT)}")


def run_compare(config: CompareConfig) -> None:
    """The entry point `compare`."""
    base, tuned = find_runs(config)
    # `mlflow run` has chosen where this run is; `experiment` says where to look for the others.
    experiment = None if "MLFLOW_RUN_ID" in os.environ else config.experiment
    print_verdict(compare_runs(base, tuned, config, experiment))
