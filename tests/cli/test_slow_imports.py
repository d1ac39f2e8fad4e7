"""Commands that need no model import nothing that takes seconds, so that they answer at once."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.compat.torch_build import torch_build

ROOT = Path(__file__).parents[2]
MODEL_LIBRARIES = {"torch", "transformers", "peft", "optuna", "datasets"}
SLOW = {"matplotlib", "scipy.stats", "safetensors"}
DRAWING = {"matplotlib", "scipy.optimize"}
CODE = """
import json, sys
from click.testing import CliRunner
from isogloss.cli.main import program
results = [CliRunner().invoke(program, words) for words in json.loads(sys.argv[1])]
print(json.dumps([[result.exit_code, result.output[-4000:]] for result in results]))
print(json.dumps(sorted(set(sys.modules) & set(json.loads(sys.argv[2])))))
"""


def imported(
    commands: list[list[str]], looked_for: set[str]
) -> tuple[list[list[object]], set[str]]:
    """Exit codes and ends of the output of commands in one process, and what it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands), json.dumps(sorted(looked_for))],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    outcomes, modules = done.stdout.splitlines()[-2:]
    return json.loads(outcomes), set(json.loads(modules))


def imported_until(answer: str, words: list[str]) -> set[str]:
    """What a command has imported as it prints or logs its answer, and not what it needs later."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "isogloss", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    until, found, _ = done.stdout.partition(answer)
    assert found, done.stdout[-4000:]
    return set(re.findall(r"^import time: .*\| +(\S+)$", until, re.MULTILINE))


def test_help_tables_and_refusals_of_parameters_import_no_mlflow() -> None:
    commands = [
        ["--help"],
        ["main", "--help"],
        ["languages", "--branch", "Semitic"],
        ["tasks"],
        ["evaluate", "--limit", "few"],
        ["evaluate", "--no_such", "1"],
        ["finetune", "--steps", "0"],
    ]
    outcomes, modules = imported(commands, MODEL_LIBRARIES | {"mlflow", "pandas", "matplotlib"})
    assert [code for code, _ in outcomes] == [0, 0, 0, 0, 2, 2, 2], outcomes
    assert modules == set()


def test_misspelt_names_are_refused_before_any_slow_import(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("study: s\nlanguages: arb_Arab,heb_Hebr,eng_Latn,fra_Latn\n", "utf-8")
    refused = {
        "evaluate --languages arb_Arabb": "unknown language 'arb_Arabb'",
        "evaluate --source arb_Arabb": "unknown language 'arb_Arabb'",
        "evaluate --languages est_Latn": "task 'probe' has no language 'est_Latn'",
        "evaluate --task porbe": "did you mean 'probe'?",
        "evaluate --format lettr": "did you mean 'letter'?",
        "evaluate --task files --source heb_Hebr --data_dir /no/such": "'/no/such'",
        "finetune --source arb_Arabb": "unknown language 'arb_Arabb'",
        "finetune --source est_Latn": "task 'probe' has no language 'est_Latn'",
        "tune --source arb_Arabb": "unknown language 'arb_Arabb'",
        "main --study nothing.yaml": "study file 'nothing.yaml' cannot be read",
        f"main --study {study} --languages arb_Arabb": "unknown language 'arb_Arabb'",
        f"main --study {study} --sources heb_Hebr,arb_Arabb": "unknown language 'arb_Arabb'",
        f"main --study {study} --control_source eng_Latnn": "unknown language 'eng_Latnn'",
        f"main --study {study} --format lettr": "did you mean 'letter'?",
        f"cells {study} --languages arb_Arabb": "unknown language 'arb_Arabb'",
        f"cell {study} embedded.base --source arb_Arabb": "unknown language 'arb_Arabb'",
        "evaluate --model /no/such/folder": "'/no/such/folder' is neither `embedded`, a folder",
        "evaluate --model qwen/typo": "'qwen/typo' is neither `embedded`, a folder",
        "finetune --model qwen/typo@v2": "'qwen/typo@v2' is neither `embedded`, a folder",
        "tune --model absent.gguf": "'absent.gguf' does not exist",
        "finetune --recipe nothing.yaml": "'nothing.yaml' cannot be read",
        f"main --study {study} --recipe nothing.yaml": "'nothing.yaml' cannot be read",
        f"main --study {study} --model embeded": "did you mean 'embedded'?",
    }
    slow = MODEL_LIBRARIES | {"mlflow", "pandas", "matplotlib", "scipy"}
    outcomes, modules = imported([words.split() for words in refused], slow)
    for (words, sentence), (code, output) in zip(refused.items(), outcomes, strict=True):
        assert code == 2, (words, output)
        assert sentence in str(output), words
    assert modules == set()


def test_misspelt_adapters_and_runs_are_refused_before_a_library_of_models_is_imported(
    tmp_path: Path,
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("study: s\nlanguages: arb_Arab,heb_Hebr,eng_Latn,fra_Latn\n", "utf-8")
    refused = {
        f"cell {study} embeded.base --model embeded": "did you mean 'embedded'?",
        "evaluate --adapter runs:/nothing": "'runs:/nothing' cannot be fetched",
        "evaluate --adapter nothing": "'nothing' is neither a folder, the id of a run",
        "evaluate --adapter models:/nothing/1": "'models:/nothing/1' cannot be fetched",
        "evaluate --adapter none,nothing,other": "2 of 3 adapters cannot be evaluated",
        "register --adapter nothing": "'nothing' is neither a folder, the id of a run",
        "register --adapter models:/nothing/1": "'models:/nothing/1' cannot be registered",
    }
    commands = [words.split() for words in refused]
    imported(commands, set())  # facts of this machine that the cache may lack take torch
    outcomes, modules = imported(commands, MODEL_LIBRARIES | SLOW)
    for (words, sentence), (code, output) in zip(refused.items(), outcomes, strict=True):
        assert code == 2, (words, output)
        assert sentence in str(output), words
    assert modules == set()


def test_a_dry_run_imports_no_library_of_models_once_its_facts_are_kept(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    study = tmp_path / "study.yaml"
    study.write_text(
        f"study: s\nmodels: [{model_folder('gemma3')}, Qwen/Qwen3-4B]\nlimit: 4\n"
        "languages: arb_Arab,heb_Hebr,amh_Ethi,fra_Latn,eng_Latn\n",
        "utf-8",
    )
    command = [["main", "--study", str(study), "--dry_run", "true"]]
    first, modules = imported(command, MODEL_LIBRARIES)
    assert modules >= {"torch", "transformers"}
    again, modules = imported(command, MODEL_LIBRARIES | SLOW | {"tokenizers"})
    assert modules == set()
    assert [code for code, _ in (*first, *again)] == [0, 0]
    tables = [_without_log(str(output)) for ((_, output),) in (first, again)]
    assert "1: mlflow run" in tables[0]
    assert tables[0] == tables[1]


def _without_log(output: str) -> str:
    return "\n".join(line for line in output.splitlines() if " INFO " not in line)


@pytest.mark.filterwarnings("ignore")
def test_a_comparison_with_its_report_imports_no_library_of_models(tmp_path: Path) -> None:
    rows = ["model,condition,language,item_id,passage_id,correct"]
    for condition, shift in (("base", 0), ("tuned", 1)):
        for place, code in enumerate(("heb_Hebr", "amh_Ethi", "fra_Latn", "eng_Latn")):
            rows += [
                f"m,{condition},{code},{item},{item // 2},{int((item * (place + 3)) % 4 > 1 - shift)}"
                for item in range(24)
            ]
    table = tmp_path / "answers.csv"
    table.write_text("\n".join(rows), "utf-8")
    table_words = f"import --path {table} --source arb_Arab --task t --format letter --study s"
    commands = [table_words.split(), ["compare", "--study", "s"]]
    outcomes, modules = imported(commands, MODEL_LIBRARIES | {"scipy.stats"})
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert "report.html" in str(outcomes[1][1])
    assert modules == set()
    # The verdict is in the run before anything is drawn.
    before = imported_until(
        "verdict 'nothing to compare'", ["compare", "--study", "s", "--margin", ".04"]
    )
    assert before & {"mlflow", "matplotlib"} == {"mlflow"}
    # The run is there: nothing is compared, nothing drawn.
    outcomes, modules = imported(commands[1:], MODEL_LIBRARIES | DRAWING | {"scipy.stats"})
    assert [code for code, _ in outcomes] == [0], outcomes
    assert "report.html" in str(outcomes[0][1])
    assert modules == set()


@pytest.mark.filterwarnings("ignore")
def test_compare_of_nothing_and_plan_import_no_library_of_models() -> None:
    commands = [["compare"], ["plan", "--control", "8"], ["plan", "--sources", "4"]]
    outcomes, modules = imported(commands, MODEL_LIBRARIES | {"scipy.stats"})
    assert [code for code, _ in outcomes] == [2, 0, 0], outcomes
    assert modules == set()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--control 8", "Power of the verdict equivalent"),
        ("--sources 4", "Power of the verdict equivalent"),
        ("--propose belebele --budget 200", "for a study file"),
    ],
)
def test_a_plan_answers_before_mlflow_and_what_draws_are_imported(words: str, answer: str) -> None:
    before = imported_until(answer, ["plan", *words.split()])
    assert "isogloss.stats.power" in before
    slow = {"mlflow", "pandas", "requests", "sqlalchemy", "matplotlib"} | SLOW | MODEL_LIBRARIES
    assert before & slow == set()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(torch_build().for_gpu, reason="torch alone knows whether there is a GPU")
def test_what_asks_about_models_and_the_machine_imports_no_library_of_models_again(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    folders = [tmp_path / name for name in ("plain", "chat")]
    for folder in folders:
        shutil.copytree(model_folder("gemma3"), folder)
    (folders[1] / "chat_template.jinja").write_text(
        "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<model>{% endif %}{{ strftime_now('%Y') }}",
        "utf-8",
    )
    study = tmp_path / "study.yaml"
    study.write_text(
        f"study: s\nmodels: {json.dumps(list(map(str, folders)))}\nlimit: 2\n", "utf-8"
    )
    commands = [["cells", str(study)], ["doctor"], ["models", *map(str, folders)]]
    first, _ = imported(commands, set())
    unused = {"scipy.stats", "huggingface_hub.hf_api"}
    again, modules = imported(commands, MODEL_LIBRARIES | DRAWING | unused)
    assert [code for code, _ in again] == [0, 0, 0], again
    assert again[0] == first[0]
    assert "0 of 6 cells have finished." in str(again[0][1])
    assert modules == set()
