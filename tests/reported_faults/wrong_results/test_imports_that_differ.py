"""Imported results are compared only if metric, documents, prompts and answers let them be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from imported_files import NAMED, ROW, imported, inspect_log, lm_eval_folder, write_rows

from isogloss.config import CompareConfig, ImportConfig
from isogloss.errors import ComparisonError
from isogloss.stages.compare import run_compare
from isogloss.stages.import_results import import_results
from isogloss.types import Missing

pytestmark = pytest.mark.usefixtures("no_figures")

LANGUAGES = ("heb_Hebr", "amh_Ethi", "fra_Latn", "tur_Latn")
Row = dict[str, Any]


def unchanged(row: Row) -> None:
    """The results of lm-eval as they are."""


def lm_eval(folder: Path, change: Callable[[Row], object]) -> str:
    """Results of lm-eval in four languages, after a change of each row."""
    folder.mkdir()
    arabic = lm_eval_folder(folder, model_args={"pretrained": "m"})
    rows = [json.loads(line) for line in arabic.read_text().splitlines()]
    arabic.unlink()
    for row in rows:
        change(row)
    for code in LANGUAGES:
        for row in rows:
            row["doc"]["dialect"] = code
        write_rows(folder / arabic.name.replace("arb_Arab", code), *rows)
    return str(folder)


def tuned(row: Row) -> None:
    row["filtered_resps"][1][0] = "-3.5"


def compared(base: ImportConfig, adapter: ImportConfig) -> float:
    """The mean gain from one import to another."""
    import_results(base)
    import_results(adapter)
    metrics = mlflow.get_run(run_compare(CompareConfig())).data.metrics
    return float(metrics["gain/mean"])


def configs(
    tmp_path: Path, change: Callable[[Row], object], **of_tuned: str
) -> tuple[ImportConfig, ImportConfig]:
    def both(row: Row) -> None:
        tuned(row)
        change(row)

    return (
        ImportConfig(path=lm_eval(tmp_path / "base", unchanged), condition="base"),
        ImportConfig(
            path=lm_eval(tmp_path / "tuned", both), condition="tuned", source="arb_Arab", seed=0,
            **of_tuned,
        ),
    )  # fmt: skip


def test_results_that_differ_in_scores_alone_are_compared(tmp_path: Path) -> None:
    assert compared(*configs(tmp_path, unchanged)) == 0


def test_accuracy_and_normalised_accuracy_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"metric is 'acc(_norm)?' in .*; 'acc"):
        compared(*configs(tmp_path, unchanged, metric="acc_norm"))


def test_a_chat_template_of_one_condition_is_not_a_gain(tmp_path: Path) -> None:
    def change(row: Row) -> None:
        for request in row["arguments"].values():
            request["arg_0"] = f"<user>{request['arg_0']}"

    with pytest.raises(ComparisonError, match="disagree on prompt_digest of amh_Ethi"):
        compared(*configs(tmp_path, change))


def test_documents_with_one_number_but_another_text_are_not_compared(tmp_path: Path) -> None:
    def change(row: Row) -> None:
        row["doc"]["question"] = "Another question?"

    with pytest.raises(ComparisonError, match="disagree on document_digest of amh_Ethi"):
        compared(*configs(tmp_path, change))


def test_a_system_message_of_inspect_is_in_the_digest_of_the_prompt(tmp_path: Path) -> None:
    def digests(*roles: str) -> list[str]:
        def change(log: dict[str, Any]) -> None:
            for sample in log["samples"]:
                sample["messages"] = [{"role": role, "content": role} for role in roles]

        table = imported(inspect_log(tmp_path, change), condition="base")
        return [table["prompt_digest"][0], table["document_digest"][0]]

    plain, answered = digests("user"), digests("user", "assistant", "user")
    system = digests("system", "user")
    assert plain == answered
    assert plain[0] != system[0]
    assert plain[1] == system[1]


def answers(path: Path, condition: str, correct: int, **columns: object) -> str:
    rows = [
        ROW | NAMED | {"language": code, "item_id": item, "condition": condition, **columns,
                       "correct": correct if item == "j" else 1}
        for code in LANGUAGES for item in "ij"
    ]  # fmt: skip
    return str(write_rows(path, *rows))


@pytest.mark.parametrize("condition", ["base", "tuned"])
def test_two_imports_with_other_answers_are_not_one_run(condition: str, tmp_path: Path) -> None:
    source = {"source": "arb_Arab", "seed": 0}
    third = 1 if condition == "base" else 0
    for number, (state, correct) in enumerate((("base", 0), ("tuned", 1), (condition, third))):
        path = answers(
            tmp_path / f"{number}.jsonl", state, correct, **(source if state == "tuned" else {})
        )
        import_results(ImportConfig(path=path))
    with pytest.raises(ComparisonError, match="4 of 8 answers differ; import replicates with"):
        run_compare(CompareConfig())


def test_an_item_that_one_import_lacks_is_left_out_if_the_user_says_so(tmp_path: Path) -> None:
    base = answers(tmp_path / "base.jsonl", "base", 0)
    tuned = Path(answers(tmp_path / "tuned.jsonl", "tuned", 1, source="arb_Arab", seed=0))
    rows = tuned.read_text().splitlines()
    # Hebrew has the items i, which both answer, and j, which only the adapter answers.
    tuned.write_text("".join(f"{row}\n" for row in rows if not ("heb" in row and '"j"' in row)))
    for path in (base, str(tuned)):
        import_results(ImportConfig(path=path))
    with pytest.raises(
        ComparisonError, match=r"heb_Hebr j in m, base, not in .*; set missing=drop"
    ):
        run_compare(CompareConfig())
    run = mlflow.get_run(run_compare(CompareConfig(missing=Missing.DROP)))
    gained = {code: run.data.metrics[f"gain/{code}"] for code in LANGUAGES}
    assert gained == {"heb_Hebr": 0, "amh_Ethi": 0.5, "fra_Latn": 0.5, "tur_Latn": 0.5}
    assert run.data.params["missing"] == "drop"
    assert (
        "1 item without an answer in some run is left out" in run.data.tags["mlflow.note.content"]
    )
    report = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report/report.md")
    assert "some run is left out of all runs: heb" in report
