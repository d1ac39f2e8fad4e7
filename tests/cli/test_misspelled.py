"""Misspelled names at the command line: each message says what may be meant."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from logged_runs import log_runs
from synthetic_predictions import gains, tables

from isogloss.cli.main import program

ROOT = Path(__file__).parents[2]
SPACE = str(ROOT / "configs" / "spaces" / "lora.yaml")
DEMO = ["main", "--study", str(ROOT / "configs" / "demo.yaml"), "--dry_run", "true"]


def refusal(*words: str) -> str:
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--languages", "eng_Latn,heb_Hbr"],
        ["evaluate", "--source", "heb_Hbr"],
        ["finetune", "--source", "heb_Hbr"],
        ["finetune", "--source", "arb_Arab+heb_Hbr"],
        ["tune", "--space", SPACE, "--source", "heb_Hbr"],
        [*DEMO, "--source", "heb_Hbr"],
        [*DEMO, "--sources", "arb_Arab,heb_Hbr"],
        [*DEMO, "--control_source", "heb_Hbr"],
        [*DEMO, "--languages", "heb_Hbr"],
        ["compare", "--source", "heb_Hbr"],
        ["plan", "--propose", "sib200", "--budget", "100", "--languages", "heb_Hbr"],
        ["plan", "--propose", "afrixnli", "--budget", "100", "--languages", "heb_Hbr"],
        ["languages", "--source", "heb_Hbr"],
    ],
    ids=" ".join,
)
def test_a_misspelled_language_is_recognised_wherever_one_is_named(words: list[str]) -> None:
    assert "unknown language 'heb_Hbr'; expected heb_Hebr." in refusal(*words)


@pytest.mark.parametrize(
    ("code", "meant"),
    [("he", "heb_Hebr"), ("ar", "arb_Arab"), ("hebrew", "heb_Hebr"), ("heb", "heb_Hebr")],
)
def test_codes_of_other_standards_and_names_are_recognised(code: str, meant: str) -> None:
    assert f"unknown language {code!r}; expected {meant}." in refusal("evaluate", "--source", code)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["evalute"], "Did you mean 'evaluate'?"),
        (["evaluate", "--formt", "letter"], "--format"),
        (["evaluate", "--data-dr", "."], "--data_dir"),
        (["evaluate", "--task", "belebel"], "did you mean 'belebele'?"),
        (["evaluate", "--format", "leter"], "did you mean 'letter'?"),
        (["evaluate", "--engine", "{kind: vlm}"], "did you mean 'vllm'?"),
        (["evaluate", "--model", "embeded"], "did you mean 'embedded'?"),
        (["finetune", "--target_modules", "all-linear+expert"], "did you mean 'all-linear+experts'?"),
        (["compare", "--experiment", "Defalt"], "did you mean 'Default'?"),
        (["compare", "--study", "demmo"], "did you mean 'demo'?"),
        (["cell", DEMO[2], "embeded.base"], "did you mean 'embedded.base'?"),
        (["main", "--study", str(ROOT / "configs" / "demoo.yaml")], "configs/demo.yaml'?"),
    ],
)  # fmt: skip
def test_other_misspelled_names_are_recognised(words: list[str], meant: str) -> None:
    if words[0] == "compare":
        log_runs(tables(gains(0.1, 0.05), n=4), study="demo")
    assert meant in refusal(*words)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("--data-dir", "nowhere", "nowhere"), ("--batch-size", "many", "batch_size should be")],
)
def test_a_parameter_may_be_written_with_hyphens(name: str, value: str, message: str) -> None:
    said = refusal("finetune", name, value)
    assert said == refusal("finetune", name[:2] + name[2:].replace("-", "_"), value)
    assert message in said
