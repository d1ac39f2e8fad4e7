"""Which cells are tasks of which array, what each waits for, and what each requests."""

import pytest

from isogloss.config import StudyConfig
from isogloss.launchers.job_arrays import JobArray, cell_options, job_arrays
from isogloss.launchers.needs import Needs
from isogloss.launchers.slurm_config import read_backend_config
from isogloss.stages.cell import cells_by_id
from isogloss.stages.study_cells import EvaluateCell, StudyCell


def study(**values: object) -> StudyConfig:
    return StudyConfig.model_validate(
        {"study": "s", "task": "probe", "languages": "heb_Hebr,eng_Latn", **values}
    )


def arrays(
    config: StudyConfig,
    finished: set[str] = frozenset(),  # type: ignore[assignment]
    largest: int = 1000,
    options: dict[str, tuple[str, ...]] | None = None,
) -> list[JobArray]:
    cells = cells_by_id(config)

    def requested(cell: StudyCell) -> tuple[str, ...]:
        return (options or {}).get(cell.config.model, ("--mem=1G",))

    return job_arrays(cells, finished, requested, largest)


def names(found: list[JobArray]) -> list[tuple[str, list[str], str | None]]:
    return [(array.name, list(array.cells), array.after) for array in found]


def test_adapters_come_before_their_evaluations_task_by_task() -> None:
    found = arrays(study(seeds="0,1", reasoning="both"))
    assert names(found) == [
        ("evaluate", ["embedded.base", "embedded.base-cot"], None),
        ("finetune", ["embedded.finetune.arb_Arab.seed0", "embedded.finetune.arb_Arab.seed1"], None),
        ("tuned", ["embedded.tuned.arb_Arab.seed0", "embedded.tuned.arb_Arab.seed1"], "finetune"),
        ("tuned-cot", ["embedded.tuned-cot.arb_Arab.seed0", "embedded.tuned-cot.arb_Arab.seed1"], "finetune"),
    ]  # fmt: skip


def test_every_cell_is_a_task_of_one_array_whatever_the_study() -> None:
    config = study(
        models=["embedded", "org/large"], sources=["arb_Arab", "tur_Latn"], seeds="0,1,2",
        reasoning="both",
    )  # fmt: skip
    cells = cells_by_id(config)
    found = arrays(config, largest=4, options={"org/large": ("--gres=gpu:4",)})
    tasks = [cell for array in found for cell in array.cells]
    assert sorted(tasks) == sorted(cells)
    by_name = {array.name: array for array in found}
    assert len(by_name) == len(found)
    for array in found:
        assert len(array.cells) <= 4
        assert {cells[cell].config.model for cell in array.cells} in ({"embedded"}, {"org/large"})
        assert array.options == (("--gres=gpu:4",) if "large" in array.cells[0] else ("--mem=1G",))
        for index, name in enumerate(array.cells):
            cell = cells[name]
            if isinstance(cell, EvaluateCell) and cell.finetuned:
                assert array.after is not None
                before = cells[by_name[array.after].cells[index]]
                assert before == cell.finetuned


def test_finished_cells_get_no_task_and_are_waited_for_by_none() -> None:
    done = {"embedded.base", "embedded.finetune.arb_Arab.seed0", "embedded.tuned.arb_Arab.seed1"}
    found = arrays(study(seeds="0,1,2"), finished=done | {"embedded.finetune.arb_Arab.seed1"})
    assert names(found) == [
        ("evaluate", ["embedded.tuned.arb_Arab.seed0"], None),
        ("finetune", ["embedded.finetune.arb_Arab.seed2"], None),
        ("tuned", ["embedded.tuned.arb_Arab.seed2"], "finetune"),
    ]
    assert arrays(study(), finished=set(cells_by_id(study()))) == []


def test_an_adapter_whose_file_is_lost_is_trained_again_without_its_finished_evaluation() -> None:
    # One of two adapters has one evaluation left, so the two are not alike.
    done = {"embedded.base", "embedded.base-cot", "embedded.tuned.arb_Arab.seed0"}
    found = arrays(study(seeds="0,1", reasoning="both"), finished=done)
    assert names(found) == [
        ("finetune", ["embedded.finetune.arb_Arab.seed0"], None),
        ("tuned-cot", ["embedded.tuned-cot.arb_Arab.seed0"], "finetune"),
        ("finetune-2", ["embedded.finetune.arb_Arab.seed1"], None),
        ("tuned", ["embedded.tuned.arb_Arab.seed1"], "finetune-2"),
        ("tuned-cot-2", ["embedded.tuned-cot.arb_Arab.seed1"], "finetune-2"),
    ]


def test_what_is_stated_replaces_what_is_estimated() -> None:
    base, trained, _ = cells_by_id(study()).values()
    # 3 hours take 6 and half an hour at most; 20e9 bytes are 19073.5 MiB.
    needs = Needs(gpus=2, memory=20e9, hours=3.0)
    config = read_backend_config({"card": "H100", "finetune": {"time": "8:00:00"}})
    assert cell_options(base, config, needs) == ("--gres=gpu:2", "--mem=19074M", "--time=390")
    assert cell_options(trained, config, needs) == (
        "--gres=gpu:2", "--mem=19074M", "--time=8:00:00"
    )  # fmt: skip
    assert cell_options(base, read_backend_config({"gpus": 1}), None) == ("--gres=gpu:1",)
    unknown = Needs(None, None, None)
    assert cell_options(base, config, unknown) == ()


@pytest.mark.parametrize("largest", [1, 2, 3])
def test_arrays_are_no_larger_than_the_cluster_takes(largest: int) -> None:
    found = arrays(study(seeds="0,1,2,3,4"), largest=largest)
    assert max(len(array.cells) for array in found) == largest
    after = [array.after for array in found if array.name.startswith("tuned")]
    assert after == [array.name for array in found if array.name.startswith("finetune")]
