"""The backend configuration: what jobs request, and what is refused in one sentence."""

import pytest

from isogloss.errors import ConfigError
from isogloss.launchers.slurm_config import JobOptions, read_backend_config, sbatch_words


def test_what_a_kind_of_job_states_replaces_what_all_jobs_state() -> None:
    config = read_backend_config(
        {
            "partition": "gpu",
            "account": "lab 7",
            "time": "1-12:00:00",
            "gpus": 1,
            "cpus": 8,
            "mem": "64G",
            "options": {"qos": "low", "constraint": "a100&nvlink"},
            "finetune": {"gpus": "h100:2", "time": 90, "options": {"qos": "high"}},
            "compare": {"partition": "cpu", "gpus": 0, "options": {"exclusive": True}},
        }
    )
    assert sbatch_words(config) == [
        "--account=lab 7", "--constraint=a100&nvlink", "--cpus-per-task=8", "--gres=gpu:1",
        "--mem=64G", "--partition=gpu", "--qos=low", "--time=1-12:00:00",
    ]  # fmt: skip
    assert sbatch_words(config, config.finetune) == [
        "--account=lab 7", "--constraint=a100&nvlink", "--cpus-per-task=8", "--gres=gpu:h100:2",
        "--mem=64G", "--partition=gpu", "--qos=high", "--time=90",
    ]  # fmt: skip
    assert sbatch_words(config, config.compare) == [
        "--account=lab 7", "--constraint=a100&nvlink", "--cpus-per-task=8", "--exclusive",
        "--mem=64G", "--partition=cpu", "--qos=low", "--time=1-12:00:00",
    ]  # fmt: skip


def test_nothing_is_requested_that_nobody_states() -> None:
    assert sbatch_words(read_backend_config({})) == []
    assert sbatch_words(JobOptions(gpus=0)) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"partion": "gpu"}, "backend config: unknown parameter 'partion'; did you mean 'partition'?"),
        ({"finetune": {"gpu": 1}}, "backend config: unknown parameter 'finetune.gpu'; did you mean 'finetune.gpus'?"),
        ({"options": {"--array": "0-9"}}, "without dashes"),
        ({"options": {"output": "x.log"}}, "not those that isogloss sets"),
        ({"options": {"qos=x --wrap": "rm"}}, "without dashes"),
        ({"partition": "a\nb"}, "backend config: partition should be one line of text, but got 'a\\nb'."),
        ({"card": "A100"}, "card should be 'H100' or 'H200'"),
        ({"workers": 0}, "workers should be greater than 0"),
        ({"setup": "module load x"}, "setup should be a list"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_backend_config(values)
    assert sentence in str(refused.value)
