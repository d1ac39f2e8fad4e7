"""The language of an answer is read from the names that tools give tasks, or it is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
from imported_files import inspect_log, lm_eval_folder, write_rows

from isogloss.config import ImportConfig
from isogloss.errors import DataError, IsoglossError
from isogloss.importers.read_results import read_results
from isogloss.importers.task_names import spots, without


def named(folder: Path, name: str, **metadata: Any) -> Path:
    """A log of inspect_ai of this task; the samples have no language but that of `metadata`."""

    def change(log: dict[str, Any]) -> None:
        log["eval"]["task"] = name
        for sample in log["samples"]:
            sample["metadata"] = {"passage_id": "p", **metadata}

    return inspect_log(folder, change)


def tasks(path: Path, **parameters: Any) -> list[tuple[str, str]]:
    """The task and language of each run."""
    config = ImportConfig(path=str(path), condition="base", **parameters)
    return [
        (run.task, code)
        for run, rows in read_results(config).items()
        for code in sorted(rows["language"].unique())
    ]


@pytest.mark.parametrize(
    ("name", "task", "language"),
    [
        ("belebele/arb_Arab", "belebele", "arb_Arab"),
        ("belebele_arb_Arab", "belebele", "arb_Arab"),
        ("belebele_arb_Arab_mcf", "belebele_mcf", "arb_Arab"),
        ("belebele-ARB-ARAB", "belebele", "arb_Arab"),
        ("belebele/ar", "belebele", "arb_Arab"),
        ("suite/xnli_ar", "xnli", "arb_Arab"),
        ("ar_xnli", "xnli", "arb_Arab"),
        ("global_mmlu_ar_stem", "global_mmlu_stem", "arb_Arab"),
        ("belebele_swa_prompt_1", "belebele_prompt_1", "swh_Latn"),
        ("xnli_hi", "xnli", "hin_Deva"),
        ("xcopa_zh-Hant", "xcopa", "zho_Hant"),
        ("xcopa_zh_CN", "xcopa", "zho_Hans"),
        ("lambada_openai_mt_de", "lambada_openai_mt", "deu_Latn"),
    ],
)
def test_a_code_in_a_tasks_name_is_its_language(
    name: str, task: str, language: str, tmp_path: Path
) -> None:
    assert tasks(named(tmp_path, name)) == [(task, language)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "belebele_zh",
            r"not clear from 'zh' \(zho_Hans or zho_Hant\) in its name; set language_names=zh=CODE",
        ),
        ("mgsm_en_cot_ru", "'en' .eng_Latn., 'ru' .rus_Cyrl. in its name; set language_names=mgsm"),
        ("flores_eng_Latn-fra_Latn", "'eng_Latn' .eng_Latn., 'fra_Latn'"),
        ("sib_run", r"from 'run' \(run_Latn\) in its name; set language_names=run=CODE, or lang"),
        ("reading_is_fun", r"from 'is' \(isl_Latn\)"),
        ("quiz_sr_Latn", "no language of the table"),
        ("my_evals/quiz", "does not state its language"),
        ("arc_easy", "does not state its language"),
    ],
)
def test_a_name_that_is_not_clear_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(IsoglossError, match=message):
        tasks(named(tmp_path, name))


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("belebele_zh", "zh=zho_Hans", ("belebele", "zho_Hans")),
        ("mgsm_en_cot_ru", "mgsm_en_cot_ru=rus_Cyrl", ("mgsm_en_cot", "rus_Cyrl")),
        ("mgsm_en_cot_ru", "ru=rus_Cyrl,de=deu_Latn", ("mgsm_en_cot", "rus_Cyrl")),
        ("include_north_macedonian_x", "north_macedonian=mkd_Cyrl", ("include_x", "mkd_Cyrl")),
        ("belebele/arabic", ("arabic=arb_Arab",), ("belebele", "arb_Arab")),
        ("sib_run", "run=run_Latn", ("sib", "run_Latn")),
    ],
)
def test_the_user_says_what_a_name_means(
    name: str, names: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    assert tasks(named(tmp_path, name), language_names=names) == [expected]


def test_the_parameter_language_settles_a_code_that_may_be_a_word(tmp_path: Path) -> None:
    path = named(tmp_path, "quiz_no_ar")
    assert tasks(path, language="arb_Arab") == [("quiz_no", "arb_Arab")]
    with pytest.raises(DataError, match="is arb_Arab in the file but heb_Hebr as a parameter"):
        tasks(named(tmp_path, "quiz_arb_Arab"), language="heb_Hebr")


@pytest.mark.parametrize("value", ["ar", "ARB_arab", "Arabisch"])
def test_a_field_may_name_the_language_otherwise(
    value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = named(tmp_path, "quiz_ar", language=value)
    assert tasks(path, language_names="Arabisch=arb_Arab") == [("quiz", "arb_Arab")]
    assert f"{value!r} in language is read as arb_Arab" in caplog.text


def test_an_ambiguous_field_is_refused(tmp_path: Path) -> None:
    path = named(tmp_path, "quiz", lang="no")
    message = "lang is 'no', which may mean nno_Latn or nob_Latn; set language_names=no=CODE"
    with pytest.raises(DataError, match=message):
        tasks(path)
    assert tasks(path, language_names="no=nob_Latn") == [("quiz", "nob_Latn")]


def test_a_word_in_the_name_of_a_task_in_several_languages_stays(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        log["eval"]["task"] = "quiz_he_v2"  # heb_Hebr is one of its languages

    path = inspect_log(tmp_path, change)
    assert tasks(path) == [("quiz_he_v2", "arb_Arab"), ("quiz_he_v2", "heb_Hebr")]


def test_one_task_per_language_is_refused_unless_they_are_named_one(tmp_path: Path) -> None:
    for name, code in (("quiz_arabisch", "arb_Arab"), ("quiz_iwrit", "heb_Hebr")):
        (tmp_path / name).mkdir()
        named(tmp_path / name, name, language=code)
    listed = r"such as quiz_arabisch \(arb_Arab\), quiz_iwrit \(heb_Hebr\); if they are one task"
    with pytest.raises(
        DataError, match=f"each of the 2 tasks is in a different language, {listed}"
    ):
        tasks(tmp_path)
    both = [("quiz", "arb_Arab"), ("quiz", "heb_Hebr")]
    assert tasks(tmp_path, task="quiz") == both
    assert tasks(tmp_path, language_names="arabisch=arb_Arab,iwrit=heb_Hebr") == both


def test_samples_of_lm_eval_have_the_language_of_their_file(tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        del row["doc"]["dialect"]
    for code in ("ar", "swa"):
        write_rows(tmp_path / path.name.replace("arb_Arab", code), *rows)
    path.unlink()
    assert tasks(tmp_path) == [("belebele_local", "arb_Arab"), ("belebele_local", "swh_Latn")]


@pytest.mark.parametrize("pair", ["zh", "zh=", "=zho_Hans", "zh=chinese", "zh=zho"])
def test_a_name_of_a_language_needs_a_code(pair: str) -> None:
    with pytest.raises(ValueError, match="NAME=CODE with a FLORES-200 code such as arb_Arab"):
        ImportConfig(path="x", language_names=pair)


def test_spots_do_not_overlap_and_a_name_is_never_empty() -> None:
    assert [spot.text for spot in spots("belebele_arb_Arab_ar")] == ["arb_Arab", "ar"]
    assert without("belebele_arb_Arab_ar", "arb_Arab") == "belebele"
    assert without("ar", "arb_Arab") == "ar"
    assert without("quiz_ar", None) == "quiz_ar"
