"""Study files are checked before anything is loaded."""

import re
from pathlib import Path

import pytest

from isogloss.config import study_files
from isogloss.errors import ConfigError
from isogloss.languages import group, source_branch
from isogloss.types import Group

ROOT = Path(__file__).parents[2]


def test_a_study_file_is_checked_and_overridden_by_name(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\nlimit: 5\nlanguages: heb_Hebr,amh_Ethi\n")
    study = study_files.read_study(path, {"limit": "7", "seed": "3"})
    assert (study.limit, study.seed, study.languages) == (7, 3, ("heb_Hebr", "amh_Ethi"))
    for content, message in [
        ("study: s\nlanguage: all\n", r"unknown parameter 'language'; did you mean 'languages'\?"),
        ("limit: 5\n", "study is required"),
        ("- 1\n", "not a mapping"),
        ("a: [\n", "not YAML"),
        (
            "study: s\nfinetune: {step: 4}\n",
            r"unknown parameter 'finetune\.step'; did you mean 'finetune\.steps'\?",
        ),
    ]:
        path.write_text(content)
        with pytest.raises(study_files.ConfigError, match=message):
            study_files.read_study(path, {})


MODELS = """
study: s
models:
- embedded
- {model: org/name, revision: abc, label: large, dtype: nf4, max_length: 2048}
- {model: org/tuned, recipe: {rank: 4}}
- {model: org/other, recipe: best.yaml}
sources:
- eng_Latn
- arz_Arab+arb_Arab
- {source: tur_Latn, limit: 50, seeds: "3,4"}
"""


def test_models_and_sources_are_names_or_mappings(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(MODELS)
    (tmp_path / "best.yaml").write_text("finetune: {steps: 7}\n")
    study = study_files.read_study(path, {})
    assert study.models
    assert [model.name for model in study.models] == [
        "embedded", "org/name@abc", "org/tuned", "org/other",
    ]  # fmt: skip
    assert study.models[1].own == {"model": "org/name@abc", "dtype": "nf4", "max_length": 2048}
    assert [model.recipe for model in study.models] == [None, None, {"rank": 4}, {"steps": 7}]
    assert study.sources
    assert [(entry.source, entry.limit, entry.seeds) for entry in study.sources] == [
        ("eng_Latn", None, None), ("arb_Arab+arz_Arab", None, None), ("tur_Latn", 50, (3, 4)),
    ]  # fmt: skip
    study = study_files.read_study(path, {"models": "a,b", "sources": "heb_Hebr"})
    assert [model.name for model in study.models or ()] == ["a", "b"]
    assert [entry.source for entry in study.sources or ()] == ["heb_Hebr"]


def test_covariates_are_relative_to_the_study_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    elsewhere = tmp_path / "elsewhere" / "own.csv"
    for given, expected in [
        ("own.csv", str(tmp_path / "own.csv")),
        (str(elsewhere), str(elsewhere)),
        ("none", None),
    ]:
        path.write_text(f"study: s\ncompare: {{margin: 0.02, covariates: {given}}}\n")
        compare = study_files.read_study(path, {}).compare
        assert (compare.margin, compare.covariates) == (0.02, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: [{model: a, dtyp: nf4}]",
         "unknown parameter 'models.dtyp'; did you mean 'models.dtype'?"),
        ("models: [a, {model: b, dtype: int4}]",
         "item 2 of models: dtype should be 'auto', 'float32', 'bfloat16' or 'nf4', but got "
         "'int4'."),
        ("models: [{label: a}]", "item 1 of models: model is required."),
        ("models: [a, a]", "models must be distinct, but got a twice."),
        ("models: [{model: a, label: x}, {model: b, label: x}]", "labels of models must be distinct, but got x twice."),
        ("sources: [arb_Arab+arz_Arab, arz_Arab+arb_Arab]",
         "sources must be distinct, but got arb_Arab+arz_Arab twice."),
        ("models: []", "models should have at least one value or 'auto'"),
        ("models: [{model: a, recipe: {stepz: 3}}]",
         "recipe of model 'a': unknown parameter 'stepz'; did you mean 'steps'?"),
    ],
)  # fmt: skip
def test_a_wrong_model_or_source_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: s\n{content}\n")
    with pytest.raises(study_files.ConfigError) as caught:
        study_files.read_study(path, {})
    assert message in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_file_of_the_repository_is_sound(path: Path) -> None:
    assert study_files.read_study(path, {}).study == path.stem


def test_the_crossed_study_has_eight_sources_of_eight_branches_with_four_relatives_each() -> None:
    study = study_files.read_study(ROOT / "configs" / "crossed-sib200.yaml", {})
    targets = study.languages
    sources = [entry.source for entry in study.sources or ()]
    assert targets is not None
    assert len(targets) == len(set(targets)) == 40
    assert len({source_branch(source) for source in sources}) == len(sources) == 8
    for source in sources:
        groups = [group(target, source) for target in targets]
        assert (groups.count(Group.SOURCE), groups.count(Group.RELATED)) == (1, 4)
        assert Group.VARIETY not in groups


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("study: s\n\nlanguage: all\n", "line 3: unknown parameter 'language'; did you mean 'languages'?"),
        ("study: s\ntask: belebel\n", "line 2: task should be "),
        ("study: s\nfinetune:\n  steps: 3\n  lerning_rate: 1\n",
         "line 4: unknown parameter 'finetune.lerning_rate'; did you mean 'finetune.learning_rate'?"),
        ("study: s\nmodels:\n- a\n- model: b\n  dtpye: nf4\n",
         "line 5: unknown parameter 'models.dtpye'; did you mean 'models.dtype'?"),
        ("study: s\nmodels:\n- a\n- model: b\n  engine:\n    kind: vlm\n", "line 6: item 2 of models"),
        ("study: s\nseeds: [0, -1]\n", "line 2: item 2 of seeds should be at least 0"),
        ("study: s\nfinetune: {steps: 0}\n", "line 2: finetune.steps should be at least 1"),
        ("limit: 5\n", "study is required."),
    ],
)  # fmt: skip
def test_a_fault_in_a_study_file_is_named_with_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content)
    with pytest.raises(study_files.ConfigError) as raised:
        study_files.read_study(path, {})
    assert str(raised.value).startswith(f"study file {str(path)!r}: {message}")


def test_a_fault_in_a_replacement_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\nlimit: 5\nlangage: all\n")
    with pytest.raises(study_files.ConfigError) as raised:
        study_files.read_study(path, {"limit": "0"})
    first, second = str(raised.value).splitlines()
    assert first.endswith(": limit should be at least 1 or 'all', but got '0'.")
    assert ": line" not in first
    assert second == "line 3: unknown parameter 'langage'; did you mean 'languages'?"


def test_a_fault_in_a_recipe_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text("finetune:\n  steps: 3\n  rnak: 4\n")
    with pytest.raises(study_files.ConfigError) as raised:
        study_files.read_recipe(path)
    assert str(raised.value) == (
        f"recipe {str(path)!r}: line 3: unknown parameter 'rnak'; did you mean 'rank'?"
    )


def test_a_file_that_is_not_there_may_be_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("study: s\n")
    path = tmp_path / "dmeo.yaml"
    with pytest.raises(study_files.ConfigError) as raised:
        study_files.read_study(path, {})
    assert str(raised.value).endswith(f"; did you mean {str(tmp_path / 'demo.yaml')!r}?")


@pytest.mark.parametrize(
    ("limit", "overrides", "expected"),
    [
        (4, {"format": "multiple"}, "command line: format should be"),
        (4, {"seed": "3", "seeds": "1,2"}, "command line: seed has no effect"),
        (0, {}, "study file 'study.yaml': line 2: limit should be"),
        (0, {"model": "m"}, "study file 'study.yaml': line 2: limit should be"),
        (0, {"format": "x", "model": "m"}, "study file 'study.yaml', with format and model of"),
    ],
)
def test_a_fault_of_the_command_line_is_not_blamed_on_the_file(
    limit: int, overrides: dict[str, str], expected: str
) -> None:
    Path("study.yaml").write_text(f"study: s\nlimit: {limit}\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}"):
        study_files.read_study(Path("study.yaml"), overrides)


def test_faults_are_in_the_order_of_the_file_and_know_the_section() -> None:
    Path("study.yaml").write_text("study: s\nsteps: 4\nlimit: 0\n")
    with pytest.raises(ConfigError) as caught:
        study_files.read_study(Path("study.yaml"), {})
    first, second = str(caught.value).splitlines()
    assert first.endswith("line 2: unknown parameter 'steps'; did you mean 'finetune.steps'?")
    assert second.startswith("line 3: limit should be at least 1")
