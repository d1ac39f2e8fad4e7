"""Slurm's commands as isogloss calls them, against stand-ins."""

from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, fake_slurm

from isogloss.errors import ConfigError
from isogloss.launchers.slurm import (
    JobState,
    cancel,
    check_options,
    job_states,
    largest_array,
    require_slurm,
    submit,
)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return fake_slurm(tmp_path / "commands", monkeypatch)


def test_the_id_of_a_job_is_read_and_a_refusal_is_one_sentence(slurm: FakeSlurm) -> None:
    assert submit(["--mem=1G", "script"], {"PATH": str(slurm.folder)}) == "101"
    slurm.answer("sbatch", error="sbatch: error: Batch job submission failed: No.\n", code=1)
    with pytest.raises(
        ConfigError, match=r"^Slurm refuses a job: Batch job submission failed: No\.$"
    ):
        submit(["script"], {"PATH": str(slurm.folder)})


def test_slurm_without_a_cluster_is_no_refusal_of_options(slurm: FakeSlurm) -> None:
    slurm.answer("test-only", error="sbatch: error: fetch_config: lookup failed\n", code=1)
    slurm.answer("scontrol", error="scontrol: error: Unknown host\n", code=1)
    with pytest.raises(
        ConfigError, match=r"^no Slurm cluster answers \(Unknown host\); submit from a login node"
    ):
        check_options(["--partition=gpu"])


def test_options_are_tried_before_anything_is_submitted(slurm: FakeSlurm) -> None:
    check_options(["--partition=gpu", "--comment=a b"])
    assert slurm.calls("sbatch") == [
        ["--test-only", "--partition=gpu", "--comment=a b", "--wrap=true"]
    ]
    slurm.answer("test-only", error="sbatch: error: invalid partition specified: gpu\nmore", code=1)
    with pytest.raises(
        ConfigError, match=r"refuses --partition=gpu: invalid partition specified: gpu\.$"
    ):
        check_options(["--partition=gpu"])


@pytest.mark.parametrize(
    ("shown", "largest"), [("x = 1\nMaxArraySize            = 51\n", 50), ("", 1000)]
)
def test_the_largest_array_is_that_of_the_cluster(
    slurm: FakeSlurm, shown: str, largest: int
) -> None:
    slurm.answer("scontrol", shown)
    assert largest_array() == largest


def test_states_come_from_squeue_and_of_forgotten_jobs_from_sacct(slurm: FakeSlurm) -> None:
    slurm.answer("squeue", "12|COMPLETED\n12|OUT_OF_MEMORY\n13|PENDING\n13|COMPLETING\n")
    slurm.answer("sacct", "14_0|CANCELLED by 1000\n14_[1-3]|PENDING\n12_0|FAILED\n")
    assert job_states(["12", "13", "14", "15"]) == {
        "12": [JobState.COMPLETED, JobState.FAILED],
        "13": [JobState.WAITING, JobState.RUNNING],
        "14": [JobState.CANCELLED, JobState.WAITING],
    }
    assert slurm.calls("squeue")[0][-1] == "--jobs=12,13,14,15"
    assert slurm.calls("sacct")[0][-1] == "--jobs=14,15"


def test_jobs_that_nothing_knows_have_no_state_and_silence_is_an_error(slurm: FakeSlurm) -> None:
    slurm.answer("squeue", error="slurm_load_jobs error: Invalid job id specified\n", code=1)
    slurm.answer("sacct", error="Slurm accounting storage is disabled\n", code=1)
    assert job_states(["12"]) == {}
    slurm.answer(
        "squeue", error="slurm_load_jobs error: Unable to contact slurm controller", code=1
    )
    with pytest.raises(OSError, match="Unable to contact slurm controller"):
        job_states(["12"])


def test_cancelling_what_has_ended_warns(
    slurm: FakeSlurm, caplog: pytest.LogCaptureFixture
) -> None:
    slurm.answer("scancel", error="scancel: error: Kill job error on job id 12: No.", code=1)
    cancel(["12", "13"])
    assert slurm.calls("scancel") == [["12", "13"]]
    assert "jobs 12 13 may go on: Kill job error on job id 12: No" in caplog.text


def test_a_machine_without_slurm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="Slurm's command 'sbatch' is not on the PATH"):
        require_slurm()
    assert largest_array() == 1000
