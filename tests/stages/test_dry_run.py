"""A dry run of a study: what is done, what it costs, and that nothing is loaded."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from safetensors import safe_open
from tiny_study import LANGUAGES, study_config

from isogloss.config import MainConfig, StudyConfig
from isogloss.errors import ConfigError
from isogloss.models.locate import locate
from isogloss.models.shapes import shape_of
from isogloss.stages.dry_run import dry_run
from isogloss.stages.dry_run_report import print_dry_run
from isogloss.stages.study import run_main
from isogloss.tracking.experiments import OWN


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        monkeypatch.setattr(
            "isogloss.models.loading.load", lambda *_: pytest.fail("the model was loaded")
        )

    return forbid


def test_a_dry_run_states_what_is_done_and_loads_nothing(
    study: StudyConfig,
    model_folder: Callable[[str], Path],
    nothing_is_loaded: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    nothing_is_loaded()
    assert [cost.done for cost in dry_run(study).cells] == ["yes", "yes", "yes"]
    two = study_config(model_folder("gemma3"), sources=["arb_Arab", "eng_Latn"])
    dry = dry_run(two)
    assert [cost.done for cost in dry.cells] == ["yes", "yes", "yes", "no", "no"]
    studies = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'study'", search_all_experiments=True
    )
    assert len(studies) == 1
    print_dry_run(dry)
    assert "5 cells, 3 done" in capsys.readouterr().out


def test_a_dry_run_looks_into_the_experiment_of_the_study_and_at_the_artifacts(
    study: StudyConfig,
) -> None:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(OWN).experiment_id
    client.rename_experiment(experiment, "elsewhere")
    assert [cost.done for cost in dry_run(study, "elsewhere").cells] == ["yes", "yes", "yes"]
    assert [cost.done for cost in dry_run(study, "Default").cells] == ["no", "no", "no"]
    (trained,) = client.search_runs([experiment], "tags.`isogloss.kind` = 'finetune'")
    uri = trained.data.tags["isogloss.adapter_uri"]
    client.delete_logged_model(uri.removeprefix("models:/"))
    # The adapter is gone, so its fine-tuning and evaluation would be done again.
    assert [cost.done for cost in dry_run(study, "elsewhere").cells] == ["yes", "no", "no"]


def test_costs_follow_items_tokens_and_parameters(model_folder: Callable[[str], Path]) -> None:
    folder = model_folder("gemma3")
    base, finetuned, tuned = dry_run(study_config(folder)).cells
    assert (base.items, finetuned.items) == (6 * len(LANGUAGES), 2 * 4)
    assert base.tokens == tuned.tokens > 10 * base.items
    with safe_open(folder / "model.safetensors", "pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    assert shape_of(locate(str(folder))).parameters == parameters
    assert base.memory
    assert finetuned.memory
    # A process with its libraries, since the model is tiny, and activations in training.
    assert 0.4e9 + 4 * parameters < base.memory <= finetuned.memory < 1e9
    assert base.hours_here
    assert finetuned.hours_here
    assert finetuned.hours_here > 2 * base.hours_here * finetuned.items / base.items
    assert base.command.startswith("mlflow run . -e evaluate --env-manager local -P model=")
    assert tuned.command.endswith("-P adapter=RUN_ID")
    assert finetuned.command.startswith("mlflow run . -e finetune")


def test_models_and_data_that_are_not_on_this_machine_are_estimated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = StudyConfig.model_validate(
        {
            "study": "s",
            "task": "belebele",
            "languages": "heb_Hebr,amh_Ethi,jpn_Jpan,kor_Hang",
            "limit": 100,
            "models": [
                {"model": "org/moe", "parameters": 671e9, "active_parameters": 37e9},
                "org/unknown",
            ],
        }
    )
    large, _, _, unknown, _, _ = dry_run(config).cells
    assert "items and tokens are assumed" in capsys.readouterr().out
    assert (large.items, large.tokens, large.done) == (400, 160_000, "unknown")
    assert large.memory
    assert large.memory > 671e9
    assert large.hours_here is None  # it does not fit
    expected = 2 * 37e9 * 160_000 / (0.5 * 790e12) / 3600  # without attention
    assert large.hours_h100 == pytest.approx(expected, rel=0.1)
    assert (unknown.memory, unknown.hours_h100, unknown.disk) == (None, None, 40_000)


def test_the_embedded_model_has_its_costs_before_it_is_first_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "empty"))
    dry = dry_run(StudyConfig.model_validate({"study": "s", "limit": 8}))
    assert not list((tmp_path / "empty").glob("*/model.safetensors"))
    for cost in dry.cells:
        assert cost.memory
        assert cost.hours_here
        assert cost.hours_h100
    assert [cost.done for cost in dry.cells] == ["unknown"] * 3
    print_dry_run(dry)
    printed = capsys.readouterr().out
    assert "Tokens of embedded are assumed" in printed
    assert " 0.3B " in printed


def test_a_dry_run_refuses_a_study_without_a_contrast(model_folder: Callable[[str], Path]) -> None:
    Path("study.yaml").write_text("study: s")
    with pytest.raises(ConfigError, match=r"two related and two control .* 0 are related"):
        run_main(
            MainConfig(
                study="study.yaml",
                model=str(model_folder("llama")),
                source="tur_Latn",
                dry_run=True,
            )
        )
