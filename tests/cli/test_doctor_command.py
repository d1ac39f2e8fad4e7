"""`isogloss doctor` reports what is there, and what is wrong."""

import shutil
from pathlib import Path

import mlflow
import psutil
import pytest
import torch
from click.testing import CliRunner

from isogloss.cli import doctor
from isogloss.cli.main import program
from isogloss.threads import Threads
from isogloss.tracking.resume import locked_work_dir


def values(findings: list[doctor.Finding]) -> dict[str, str]:
    return {finding.name: finding.value for finding in findings}


def test_a_sound_machine_has_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(program, ["doctor"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("No problems found.\n")
    for title in doctor.CHECKS:
        assert f"\n{title}\n" in f"\n{result.output}"


def test_versions_are_those_of_the_declared_dependencies() -> None:
    by_name = values(doctor.python_and_packages())
    assert by_name["torch"] == torch.__version__
    assert by_name["mlflow"] == mlflow.__version__
    assert len(by_name) == 2 + len(doctor.dependencies())


@pytest.mark.parametrize(
    ("requirement", "value"), [("click<8", None), ("no-such-package>=1", "missing")]
)
def test_a_package_that_is_missing_or_out_of_range_is_a_problem(
    requirement: str, value: str | None
) -> None:
    finding = doctor.package(requirement)
    assert finding.problem == f"install {requirement}"
    assert value in (None, finding.value)


def test_devices_name_memory_and_bfloat16() -> None:
    by_name = values(doctor.devices())
    assert "bfloat16: " in by_name["cpu"]
    assert f"of {psutil.virtual_memory().total / 1e9:.1f} GB" in by_name["memory"]
    assert torch.cuda.is_available() or by_name["gpu"] == "none"


def test_settings_name_processes_and_threads_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "limit_threads", lambda: Threads(2, "CPU quota of 2.5 processors"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert values(doctor.settings())["processes"] == "1"
    expected = "2 (CPU quota of 2.5 processors), waiting passive (OMP_WAIT_POLICY)"
    assert values(doctor.settings())["threads"] == expected
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert values(doctor.settings())["processes"] == "3"


def test_a_store_that_answers_is_reported(tmp_path: Path) -> None:
    (finding,) = doctor.tracking()
    assert finding.problem is None
    assert f"sqlite:///{tmp_path}/mlflow.db answers in" in finding.value
    assert finding.value.endswith("1 experiments")


def test_a_store_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    (finding,) = doctor.tracking()
    assert finding.problem is None
    assert finding.value.endswith("(created by the first run)")
    assert not (tmp_path / "other.db").exists()


def test_a_store_that_mlflow_cannot_use_is_a_problem_that_shows_no_password() -> None:
    mlflow.set_tracking_uri("mysql+pymysql://me:secret@127.0.0.1:9/x")
    (finding,) = doctor.tracking()
    assert "Python package 'pymysql'" in str(finding.problem)
    assert "secret" not in f"{finding.value} {finding.problem}"


def test_a_server_that_does_not_answer_is_a_problem_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    result = CliRunner().invoke(program, ["doctor"])
    assert result.exit_code == 1
    assert "problem: mlflow store: MLflow does not answer" in result.output
    assert "No problems found" not in result.output


def test_folders_are_reported_with_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ISOGLOSS_CACHE", str(cache))
    assert values(doctor.folders())["cache"] == f"{cache} (created when needed)"
    (cache / "part").mkdir(parents=True)
    (cache / "part" / "weights").write_bytes(bytes(3000))
    (cache / "link").symlink_to(cache / "part" / "weights")
    free = shutil.disk_usage(cache).free / 1e9
    assert values(doctor.folders())["cache"] == f"{cache}: 3 kB, {free:.1f} GB free on the disk"


def test_unfinished_work_is_listed(tmp_path: Path) -> None:
    assert values(doctor.unfinished())["unfinished work"].startswith("none in ")
    with locked_work_dir("evaluate", "f" * 64) as work:
        work.record_run("r" * 32)
        (finding,) = doctor.unfinished()
    assert finding.value == f"{work.folder} of run {'r' * 32}"
