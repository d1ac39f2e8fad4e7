"""`isogloss tasks` and `isogloss languages`."""

import pytest
from click.testing import CliRunner

from isogloss.cli.languages import languages_table
from isogloss.cli.main import program
from isogloss.errors import ConfigError
from isogloss.languages import table
from isogloss.tasks import TASKS, probe


def test_every_task_is_listed_with_the_number_of_its_languages() -> None:
    result = CliRunner().invoke(program, ["tasks"])
    assert result.exit_code == 0
    header, *rows = (line.split() for line in result.output.splitlines())
    assert header[:2] == ["task", "languages"]
    assert [row[0] for row in rows] == list(TASKS)
    assert {row[0]: row[1] for row in rows} == {
        "probe": "20", "sib200": "205", "belebele": "122", "global_mmlu": "42",
        "global_piqa_parallel": "97", "global_piqa_nonparallel": "99", "afrixnli": "18",
        "files": "yours",
    }  # fmt: skip


def test_a_branch_lists_its_languages_with_groups_for_the_source() -> None:
    header, *rows = languages_table("Semitic", "heb_Hebr")
    assert header == ("code", "name", "branch", "script", "group", "tasks")
    by_code = {row[0]: row for row in rows}
    assert by_code["heb_Hebr"][4:] == (
        "source",
        "probe sib200 belebele global_mmlu global_piqa_parallel global_piqa_nonparallel",
    )
    assert by_code["arz_Arab"][4:] == (
        "related",
        "sib200 belebele global_piqa_parallel global_piqa_nonparallel",
    )
    assert by_code["acq_Arab"][4:] == (
        "related",
        "sib200 global_piqa_parallel global_piqa_nonparallel",
    )
    assert {row[2] for row in rows} == {"Semitic"}


def test_groups_are_relative_to_the_source() -> None:
    groups = {row[0]: row[4] for row in languages_table(None, "arb_Arab")[1:]}
    assert groups.keys() == table().keys()
    assert groups["arb_Arab"] == "source"
    assert groups["arz_Arab"] == "variety"
    assert groups["heb_Hebr"] == "related"
    assert groups["tur_Latn"] == "control"


def test_the_listing_ends_with_a_count() -> None:
    result = CliRunner().invoke(program, ["languages", "--branch", "Turkic"])
    *_, last, count = result.output.splitlines()
    assert last.split()[0] == "uzn_Latn"
    assert count == "11 languages; groups are relative to arb_Arab"


@pytest.mark.parametrize(
    ("branch", "source", "message"),
    [("Semitc", "arb_Arab", "expected Semitic"), (None, "klingon", "'klingon'")],
)
def test_an_unknown_branch_or_language_is_rejected(
    branch: str | None, source: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        languages_table(branch, source)
    arguments = ["--branch", branch] if branch else ["--source", source]
    result = CliRunner().invoke(program, ["languages", *arguments])
    assert (result.exit_code, message in result.output) == (2, True)


def test_a_task_lists_its_own_languages() -> None:
    result = CliRunner().invoke(program, ["languages", "--task", "probe", "--source", "amh_Ethi"])
    *rows, count = result.output.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(probe.languages())
    related = {row.split()[0] for row in rows if " related " in row}
    assert related == {"arb_Arab", "heb_Hebr", "mlt_Latn", "tir_Ethi"}
    assert count == "20 languages; groups are relative to amh_Ethi"


def test_a_task_without_languages_of_its_own_is_refused() -> None:
    result = CliRunner().invoke(program, ["languages", "--task", "files"])
    assert result.exit_code == 2
    assert "'files' is not one of 'probe', 'sib200', 'belebele', 'global_mmlu'" in result.output
