from pathlib import Path

import optuna
import pytest
import yaml

from isogloss.errors import ConfigError
from isogloss.hpo.space import read_space

ROOT = Path(__file__).parents[2]


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_default_space_searches_everything_that_a_recipe_has() -> None:
    space = read_space(ROOT / "configs" / "spaces" / "lora.yaml")
    assert set(space.distributions) == {
        "learning_rate", "rank", "alpha", "dropout", "target_modules", "batch_size", "steps",
    }  # fmt: skip
    assert space.fixed == {}


def test_choices_ranges_and_fixed_values_become_what_a_trial_uses(tmp_path: Path) -> None:
    space = read_space(
        write(
            tmp_path / "space.yaml",
            {
                "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                "steps": {"low": 2, "high": 6, "step": 2},
                "rank": [2, 4],
                "batch_size": 3,
            },
        )
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask()) for _ in range(40)]
    assert {one.steps for one in drawn} == {2, 4, 6}
    assert {one.rank for one in drawn} == {2, 4}
    assert {one.batch_size for one in drawn} == {3}
    assert {one.alpha for one in drawn} == {32}
    assert all(1e-4 <= one.learning_rate <= 1e-2 for one in drawn)
    assert sum(one.learning_rate < 1e-3 for one in drawn) > 10  # logarithmic: half of them


def test_a_step_that_does_not_divide_its_range_shortens_it_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {
        "steps": {"low": 1, "high": 10, "step": 4},
        "dropout": {"low": 0.0, "high": 0.25, "step": 0.1},
    }
    space = read_space(write(tmp_path / "space.yaml", content))
    assert space.values("steps") == [1, 9]
    assert space.values("dropout") == [0.0, pytest.approx(0.2)]
    messages = sorted(record.message for record in caplog.records)
    assert messages[0].startswith("dropout: The distribution is specified by [0.0, 0.25]")
    assert messages[1].startswith("steps: The distribution is specified by [1, 10] and step=4")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"learning_rte": [1e-3, 1e-4]},
            "unknown parameter 'learning_rte'; did you mean 'learning_rate'",
        ),
        ({"rank": [4, 0]}, "rank should be at least 1"),
        ({"dropout": {"low": 0.0, "high": 1.5}}, "dropout should be less than 1"),
        ({"learning_rate": {"low": 1e-3}}, "a range needs low and high"),
        ({"learning_rate": {"low": 1e-2, "high": 1e-3}}, "learning_rate"),
        ({"rank": []}, "distinct values"),
        ({"rank": [4, 4]}, "distinct values"),
        ({"rank": 4}, "nothing to search"),
        ({"steps": {"low": 1.5, "high": 3}}, "steps"),
        ({"alpha": {"low": 1, "high": 2, "step": 0.5}}, "alpha: step must be a whole number"),
        ({"rank": {"low": 1, "high": 8, "step": 2.5}}, "rank: step must be a whole number"),
        ({"rank": {"low": 1, "high": 8, "step": float("nan")}}, "rank: step must be a whole"),
        ([1, 2], "not a mapping"),
        (
            {"target_modules": ["attention", "q_proj+experts"]},
            "unknown target_modules 'q_proj.experts'",
        ),
        ({"target_modules": ["attention+experts", "v_proj"], "dropout": 0.1}, "dropout must be 0"),
        ({"target_modules": "all-linear+experts", "dropout": [0, 0.1]}, "dropout must be 0"),
        (
            {"target_modules": "all-linear+experts", "dropout": {"low": 0, "high": 0.2}},
            r"space '.*space\.yaml': dropout must be 0 .* got 0\.2",
        ),
    ],
)
def test_a_space_that_cannot_be_used_is_refused_by_the_name_of_its_entry(
    tmp_path: Path, content: object, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_space(write(tmp_path / "space.yaml", content))


def test_experts_are_searched_without_dropout_and_attention_with_it(tmp_path: Path) -> None:
    mixture = {"target_modules": ["attention", "attention+experts"], "rank": [2, 4]}
    space = read_space(write(tmp_path / "mixture.yaml", mixture))
    assert space.distributions["target_modules"].choices == ("attention", "attention+experts")
    dense = {"target_modules": ["attention", "all-linear"], "dropout": [0, 0.1]}
    assert read_space(write(tmp_path / "dense.yaml", dense)).fixed == {}


def test_a_space_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        read_space(tmp_path / "absent.yaml")


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("learning_rate: {low: 1e-4, high: 2e-3, log: true}\ndropout: [0, 1e-1]\n")
    space = read_space(path)
    drawn = space.suggest(optuna.create_study().ask())
    assert 1e-4 <= drawn.learning_rate <= 2e-3
    assert space.distributions["dropout"].choices == (0.0, 0.1)
