"""Parameters, study files and other YAML that nobody wrote: read, or refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from hostile.fuzzing import LONGEST, NASTY, TEXT, VALUE, as_json, fuzzed, nearly, readable
from isogloss.config import Hyperparameters, StudyConfig, as_text, explain
from isogloss.config.engine import Engine, is_address
from isogloss.config.entry_points import ENTRY_POINTS
from isogloss.config.study_files import read_recipe, read_study
from isogloss.hpo.space import read_space
from isogloss.languages import language, pooled_source, source_languages
from isogloss.languages.codes import languages_of
from isogloss.launchers.slurm_config import SlurmConfig, read_backend_config
from isogloss.servers import address
from isogloss.stages.search_runs import parse_tags
from isogloss.stages.served_model import served_model
from isogloss.tasks.description import Description, read_description
from isogloss.types import EngineKind

ROOT = Path(__file__).parents[2]
FIELDS = [
    (name, field)
    for name, config_class in {**ENTRY_POINTS, "study file": StudyConfig}.items()
    for field in config_class.model_fields
]
CLASSES = {**ENTRY_POINTS, "study file": StudyConfig}
REQUIRED = {"adapter": "a", "path": "p", "study": "s"}


def checked(config_class: type[BaseModel], values: dict[str, Any]) -> BaseModel | None:
    """The configuration, or None if it is refused in a few lines of readable length."""
    message = ""
    with readable():
        try:
            return config_class.model_validate(values)
        except ValidationError as error:
            message = explain(error, config_class)
    assert len(message) < LONGEST, message[:300]
    assert "pydantic" not in message
    return None


@fuzzed(4)
@given(data=st.data())
@pytest.mark.parametrize(("entry_point", "field"), FIELDS)
def test_any_value_of_a_parameter(entry_point: str, field: str, data: st.DataObject) -> None:
    config_class = CLASSES[entry_point]
    needed = {name: REQUIRED[name] for name in REQUIRED if name in config_class.model_fields}
    config = checked(config_class, {**needed, field: data.draw(VALUE)})
    if config is not None and entry_point in ENTRY_POINTS:
        # What the command line, MLproject and MLflow write is read again as the same value.
        value = getattr(config, field)
        again = checked(config_class, {**needed, field: as_text(field, value)})
        assert again is not None
        assert getattr(again, field) == value


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content, allow_unicode=False), encoding="utf-8")
    return path


def mappings(config_class: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.one_of(st.sampled_from(sorted(config_class.model_fields)), TEXT)
    return st.dictionaries(names, VALUE, max_size=5)


@fuzzed(40)
@given(content=mappings(StudyConfig) | VALUE, training=mappings(Hyperparameters))
def test_any_study_file(
    content: Any, training: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("study")
    if isinstance(content, dict):
        content = {"study": "s", "finetune": training, **content}
    with readable():
        read_study(write(folder / "study.yaml", content), {})


@fuzzed(15)
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_any_change_of_a_study_file(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("study") / name
    path.write_bytes(data.draw(nearly((ROOT / "configs" / name).read_bytes())))
    with readable():
        read_study(path, {})


@fuzzed(40)
@given(content=mappings(Hyperparameters) | VALUE)
def test_any_recipe_and_any_search_space(
    content: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    with readable():
        read_recipe(write(folder / "recipe.yaml", {"finetune": content}))
    with readable():
        read_space(write(folder / "space.yaml", content))


RANGES = st.fixed_dictionaries(
    {"low": VALUE, "high": VALUE}, optional={"log": VALUE, "step": VALUE, "other": VALUE}
)
NUMBERS = st.fixed_dictionaries(
    {"low": st.integers(-5, 70_000) | st.floats(), "high": st.integers(-5, 70_000) | st.floats()},
    optional={"log": st.booleans(), "step": st.integers(-3, 10) | st.floats()},
)


@fuzzed(60)
@given(
    content=st.dictionaries(
        st.sampled_from(sorted(Hyperparameters.model_fields)), RANGES | NUMBERS, min_size=1
    )
)
def test_any_range_of_a_search_space(
    content: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with readable():
        read_space(write(tmp_path_factory.mktemp("space") / "space.yaml", content))


@fuzzed(40)
@given(content=mappings(Description) | VALUE)
def test_any_description_of_data(content: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("data")
    if isinstance(content, dict):
        content = {"name": "quiz", **content}
    write(folder / "task.yaml", content)
    with readable():
        read_description(str(folder))


@fuzzed(40)
@given(content=mappings(SlurmConfig) | VALUE)
def test_any_backend_configuration(
    content: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("backend") / "slurm.json"
    path.write_bytes(as_json(content))
    with readable():
        read_backend_config(json.loads(path.read_bytes()))


@fuzzed(150)
@given(text=TEXT | st.sampled_from(NASTY).flatmap(lambda one: TEXT.map(lambda two: one + two)))
def test_any_list_of_languages(text: str) -> None:
    languages_of(text)
    assert len(pooled_source(text)) <= len(text)
    for read in (language, source_languages):
        with readable():
            read(text)


@fuzzed(150)
@given(texts=st.lists(TEXT | st.builds("{}={}".format, TEXT, TEXT), max_size=3))
def test_any_tags(texts: list[str]) -> None:
    with readable():
        parse_tags(texts)


HOSTS = st.sampled_from(
    ["host", "[::1]", "[", "[::", "a b", "h\0", "é", "xn--", "xn--\u0301", "127.0.0.1", "", "%00", "a..b",
     "\u2024", "a" * 300, "-", "256.256.256.256", "0x7f.1"]
)  # fmt: skip
PORTS = st.sampled_from(["", ":80", ":0", ":99999", ":x", ":-1", ":٣", ":" + "9" * 30, ":8000:9"])
ADDRESSES = st.one_of(
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "http:", "", "//"]),
        HOSTS,
        PORTS,
        st.sampled_from(["", "/", "/v1", "/v1/", "/v1?x", "/\0", "/%zz", "/é", "/../..", "/\\"]),
        st.sampled_from(["", "#", "#name", "?a=b", "\n"]),
    ),
    TEXT,
)


@fuzzed(300)
@given(url=ADDRESSES)
def test_any_address_of_a_server(url: str) -> None:
    engine = checked(Engine, {"kind": EngineKind.VLLM, "base_url": url})
    if isinstance(engine, Engine):
        with readable(), httpx2.Client(base_url=address.root(str(engine.base_url))) as client:
            assert client.build_request("GET", "/v1/models").url.host
    elif is_address(url):
        with readable():
            served_model(url, None)
