from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml

from isogloss.config import Training, TuneConfig
from isogloss.tuning import run_tune


def test_tune_logs_each_trial_and_the_best_recipe_and_goes_on_where_it_stopped(
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: set[tuple[str, str]] = set()
    from isogloss import finetuning

    load_items = finetuning.items

    def record(task: object, language: str, split: str, *rest: object) -> object:
        seen.add((language, split))
        return load_items(task, language, split, *rest)

    monkeypatch.setattr(finetuning, "items", record)
    settings = {
        "model": str(model_folder("gemma3")), "dtype": "float32", "study": "search", "steps": 1,
        "batch_size": 2, "dev_limit": 4, "limit": 4, "ranks": (2, 4), "storage": "deep/journal",
    }  # fmt: skip
    run_tune(TuneConfig(**settings, trials=2))
    run_tune(TuneConfig(**settings, trials=3))
    trials = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'trial'", output_format="list"
    )
    assert sorted(run.info.run_name for run in trials) == ["trial 0", "trial 1", "trial 2"]
    for run in trials:
        assert "dev/accuracy" in run.data.metrics
        for name in ("model", "source", "adapter", "task", "format", "reasoning", "fingerprint"):
            assert run.data.tags[f"isogloss.{name}"]
        assert int(run.data.params["recipe.rank"]) in (2, 4)
    newest = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'tune'", output_format="list"
    )[0]
    best = yaml.safe_load(mlflow.artifacts.load_text(f"{newest.info.artifact_uri}/best.yaml"))
    assert Training(**best["finetune"]).steps == 1
    assert newest.data.metrics["dev/accuracy"] == max(
        run.data.metrics["dev/accuracy"] for run in trials
    )
    assert "best of 3 trials" in capsys.readouterr().out
    assert seen == {("arb_Arab", "train"), ("arb_Arab", "dev")}
