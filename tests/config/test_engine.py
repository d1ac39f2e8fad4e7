"""Engines: read from mappings, text and files, refused by sentence, written as one line."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from isogloss.cli.main import program
from isogloss.config import EvaluateConfig, StudyConfig, command_line, explain
from isogloss.config.engine import Engine
from isogloss.types import EngineKind

URL = "http://127.0.0.1:8000/v1"


def test_engines_are_mappings_text_and_files(tmp_path: Path) -> None:
    file = tmp_path / "engine.yaml"
    file.write_text(f"kind: vllm\nbase_url: {URL}\nname: tiny\n", encoding="utf-8")
    expected = Engine(kind=EngineKind.VLLM, base_url=URL, name="tiny")
    for value in (
        {"kind": "vllm", "base_url": URL, "name": "tiny"},
        f"{{kind: vllm, base_url: '{URL}', name: tiny}}",
        str(file),
    ):
        assert EvaluateConfig.model_validate({"engine": value}).engine == expected
    assert EvaluateConfig.model_validate({"engine": "auto"}).engine is None


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ("{kind: vllm}", "engine should have base_url, which kind vllm needs."),
        ("{kind: command}", "engine should have train, which kind command needs."),
        (f"{{kind: command, train: a, base_url: '{URL}'}}", "should have no base_url, since"),
        (
            "{kind: tgi}",
            "engine.kind should be 'vllm', 'sglang', 'llama_cpp', 'openai', 'tinker' or",
        ),
        ("{kind: tinker, retries: 3}", "should have no retries, which kind tinker decides itself"),
        (
            "{kind: tinker, train: 'sh a.sh {train} {output}'}",
            "should have no train, which kind tinker decides itself",
        ),
        (
            f"{{kind: vllm, base_url: '{URL}', price_train: 1}}",
            "should have no price_train, which is of kind tinker, not of vllm",
        ),
        ("{kind: vllm, base_urll: a}", "did you mean 'engine.base_url'?"),
        ("nowhere.yaml", "engine should be a mapping such as"),
        ("{kind: [", "is not YAML"),
    ],
)
def test_unusable_engines_are_refused_by_name(engine: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EvaluateConfig.model_validate({"engine": engine})
    assert sentence in explain(caught.value, EvaluateConfig)


def test_the_command_line_of_an_engine_can_be_read_again() -> None:
    config = EvaluateConfig(engine=Engine(kind=EngineKind.VLLM, base_url=URL, concurrency=4))
    words = shlex.split(command_line("evaluate", config))
    (engine,) = [word for word in words if word.startswith("engine=")]
    assert (
        EvaluateConfig.model_validate({"engine": engine.removeprefix("engine=")}).engine
        == config.engine
    )


def test_tinker_needs_no_address_and_has_a_key_of_its_own() -> None:
    engine = Engine.model_validate({"kind": "tinker", "price_train": 2})
    assert (engine.serves, engine.trains) == (True, True)
    assert engine.key == "TINKER_API_KEY"
    assert Engine.model_validate(engine.model_dump()) == engine
    own = Engine.model_validate({"kind": "tinker", "key": "OTHER_KEY"})
    assert own.key == "OTHER_KEY"
    config = EvaluateConfig(engine=own)
    words = shlex.split(command_line("evaluate", config))
    (written,) = [word for word in words if word.startswith("engine=")]
    assert EvaluateConfig.model_validate({"engine": written.partition("=")[2]}) == config


def test_a_model_of_a_study_has_an_engine_of_its_own() -> None:
    study = StudyConfig.model_validate(
        {
            "study": "s",
            "models": ["embedded", {"model": "big", "engine": {"kind": "vllm", "base_url": URL}}],
        }
    )
    assert study.models is not None
    assert "engine" not in study.models[0].own
    assert study.models[1].own["engine"] == Engine(kind=EngineKind.VLLM, base_url=URL)


@pytest.mark.parametrize(
    ("prices", "cost"),
    [({}, None), ({"price_in": 2.0}, 6.0), ({"price_out": 10.0}, 5.0),
     ({"price_in": 2.0, "price_out": 10.0}, 11.0), ({"price_in": 0.0}, 0.0)],
)  # fmt: skip
def test_tokens_cost_what_the_prices_say(prices: dict[str, float], cost: float | None) -> None:
    engine = Engine.model_validate({"kind": "vllm", "base_url": URL, **prices})
    assert engine.cost(3_000_000, 500_000) == cost


def test_a_login_in_an_address_is_refused_on_the_command_line_without_it() -> None:
    engine = "{kind: vllm, base_url: 'http://me:s3cret@host/v1'}"
    result = CliRunner().invoke(program, ["evaluate", "--engine", engine])
    assert result.exit_code == 2
    assert "engine.base_url has a user or a password in it" in result.output
    assert "s3cret" not in result.output
