"""Study files are checked before anything is loaded."""

from pathlib import Path

import pytest

from isogloss.config import study_files

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


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_file_of_the_repository_is_sound(path: Path) -> None:
    assert study_files.read_study(path, {}).study == path.stem
