"""One file under two conditions or languages, and one key with two values, are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from imported_files import DATA, inspect_log, lm_eval_folder

from isogloss.config import CompareConfig, ImportConfig
from isogloss.config.study_files import read_study
from isogloss.errors import ComparisonError, ConfigError
from isogloss.stages.collect_runs import collect_runs, read_tables
from isogloss.stages.import_results import import_results, run_import
from isogloss.tasks import open_task


def test_a_tuned_model_with_the_scores_of_its_base_is_not_compared(tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path, "vllm", {"pretrained": "m"})
    shared = {"path": str(path), "study": "s"}
    import_results(ImportConfig(**shared, condition="base"))
    import_results(ImportConfig(**shared, condition="tuned", source="arb_Arab", seed=0))
    message = "m, tuned on arb_Arab, seed 0 has the same log-likelihoods .* in all 4 items"
    with pytest.raises(ComparisonError, match=message):
        read_tables(collect_runs(CompareConfig(study="s")))
    text = path.read_text().replace('"-6.47593879699707"', '"-6.5"')
    path.write_text(text)
    import_results(ImportConfig(**{**shared, "study": "t"}, condition="base"))
    import_results(
        ImportConfig(**{**shared, "study": "t"}, condition="tuned", source="arb_Arab", seed=1)
    )
    first, second = (collect_runs(CompareConfig(study=study)).runs for study in "st")
    mixed = tuple(run.info.run_id for run in (first[0], second[1]))
    assert len(read_tables(collect_runs(CompareConfig(runs=mixed)))) == 2


def test_a_tuned_model_with_the_answers_of_its_base_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def flip(log: dict[str, Any]) -> None:
        score = log["samples"][0]["scores"]["choice"]
        score["value"] = "C" if score["value"] == "I" else "I"

    tuned = {"condition": "tuned", "source": "arb_Arab"}
    for study, change in (("s", lambda log: None), ("t", flip)):
        for condition in ({"condition": "base"}, tuned):
            path = inspect_log(tmp_path, change if condition is tuned else lambda log: None)
            import_results(ImportConfig(path=str(path), study=study, **condition))
        read_tables(collect_runs(CompareConfig(study=study)))
        same = "is right and wrong in the same items as the base model, in all 8" in caplog.text
        assert same == (study == "s")
        caplog.clear()


def test_what_is_imported_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run_import(ImportConfig(path=str(DATA / "quiz_epochs.json"), condition="base"))
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(", run ")[0] for line in printed] == [
        "base       mockllm/model, quiz_epochs (generate), seed 1: 2 languages, 8 items, accuracy 0.500",
        "base       mockllm/model, quiz_epochs (generate), seed 2: 2 languages, 8 items, accuracy 0.500",
    ]
    (samples,) = DATA.glob("samples_cloze*")
    run_import(ImportConfig(path=str(samples), condition="tuned", source="arb_Arab", seed=3))
    assert (
        "tiny, cloze (cloze), tuned on arb_Arab, seed 3: 1 language, 4" in capsys.readouterr().out
    )


def test_a_file_of_one_language_is_not_that_of_another(tmp_path: Path) -> None:
    (tmp_path / "en.csv").write_text("question,option_1,option_2,answer\nWhat?,one,two,1\n")
    languages = {"eng_Latn": "en", "fra_Latn": "en"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({"name": "x", "languages": languages}))
    with pytest.raises(ConfigError, match="languages maps two codes to 'en'"):
        open_task("files", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "source: heb_Hebr\nlimit: 3\nsource: swh_Latn",
            "the key 'source' occurs twice, first in line 2 (line 4, column 1).",
        ),
        (
            "finetune: {steps: 1, rank: 2, steps: 3}",
            "the key 'steps' occurs twice, first in line 2 (line 2, column 31).",
        ),
    ],
)
def test_a_key_of_a_study_file_with_two_values_is_refused(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: x\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        read_study(path, {})
    assert str(caught.value).endswith(message)
    path.write_text("study: x\nlanguages: [heb_Hebr\nlimit: 3\n")
    with pytest.raises(
        ConfigError, match=r"expected ',' or '\]', but got ':' \(line 3, column 6\)"
    ):
        read_study(path, {})
    path.write_text("defaults: &d {steps: 1, rank: 2}\nstudy: x\nfinetune: {<<: *d, steps: 3}\n")
    with pytest.raises(ConfigError, match=r"the alias \*d is not accepted"):
        read_study(path, {})
