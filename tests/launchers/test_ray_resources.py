"""What a worker asks of a Ray cluster, and clusters that are refused before a run is open."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from isogloss.config import StudyConfig
from isogloss.errors import ConfigError
from isogloss.launchers import ray_cluster
from isogloss.launchers.ray_cluster import Node, check_store, connected
from isogloss.launchers.ray_resources import Demand, demands
from isogloss.launchers.ray_worker import Settings
from isogloss.stages.dry_run import dry_run

LANGUAGES = ("heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn")
HERE = socket.gethostname()
CPUS = Node("a", HERE, 0.0, 2.0, 8e9, None)
H100S = Node("b", HERE, 8.0, 64.0, 1e12, "H100")
H200S = Node("c", HERE, 8.0, 64.0, 1e12, "H200")


def study(**values: object) -> StudyConfig:
    return StudyConfig.model_validate(
        {"study": "s", "languages": LANGUAGES, "limit": 4, "dtype": "bfloat16", **values}
    )


def test_stated_resources_are_asked_for_the_models_own_before_the_studys() -> None:
    config = study(
        resources={"gpus": 1, "cpus": 2, "memory_gb": 40},
        models=[{"model": "m/a"}, {"model": "m/b", "resources": {"gpus": 4, "memory_gb": 0.5}}],
    )
    assert demands(config, [CPUS]) == {
        "m/a": Demand(1, 2, 40_000_000_000), "m/b": Demand(4, 2, 500_000_000),
    }  # fmt: skip


def test_on_processors_the_memory_is_the_estimated_peak_of_the_models_cells(
    model_folder: Callable[[str], Path],
) -> None:
    config = study(model=str(model_folder("gemma3")), dtype="float32")
    (asked,) = demands(config, [CPUS]).values()
    peak = max(cost.memory for cost in dry_run(config).cells)
    assert (asked.gpus, asked.cpus) == (0, 1)
    assert asked.memory == pytest.approx(peak, abs=1)


def test_gpus_are_as_few_as_hold_the_model_by_the_kind_that_the_cluster_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = [{"model": "org/big", "parameters": 50e9}, {"model": "org/small", "parameters": 8e9}]
    spread = study(models=models, device_map="auto")
    gpus = lambda nodes: {name: asked.gpus for name, asked in demands(spread, nodes).items()}
    assert gpus([CPUS, H100S]) == {"org/big": 2, "org/small": 1}
    assert gpus([H200S]) == {"org/big": 1, "org/small": 1}
    assert gpus([H100S, H200S]) == {"org/big": 2, "org/small": 1}  # it may get the smaller ones
    asked = demands(spread, [H100S])["org/small"]
    assert asked.memory == pytest.approx(8e9 * 2 + 8e9, rel=0.05)  # bfloat16, and what is beside
    assert not caplog.records
    one_device = demands(study(models=models), [H100S])
    assert {asked.gpus for asked in one_device.values()} == {1}
    assert "'org/big' needs 2 GPUs by estimate, but its device_map is 'none'" in caplog.text


def test_a_model_of_a_server_takes_no_gpu() -> None:
    engine = {"kind": "vllm", "base_url": "http://host:8000/v1"}
    config = study(
        dtype="auto", models=[{"model": "org/big", "parameters": 50e9, "engine": engine}]
    )
    assert demands(config, [H100S])["org/big"] == Demand(0, 1, 8_000_000_000)


def test_a_worker_fits_a_node_that_has_all_it_takes() -> None:
    assert Demand(0, 2, 8_000_000_000).fits(CPUS)
    assert not Demand(0, 3, 1).fits(CPUS)
    assert not Demand(0, 1, 8_000_000_001).fits(CPUS)
    assert not Demand(1, 1, 1).fits(CPUS)
    assert Demand(8, 1, 1).fits(H100S)
    assert Demand(2, 1, 40_000_000_000).text == "2 GPUs, 1 CPU, 40.0 GB"


def test_a_store_in_a_file_is_refused_where_workers_are_on_other_machines() -> None:
    check_store([CPUS])
    other = Node("d", "elsewhere", 0.0, 2.0, 8e9, None)
    with pytest.raises(ConfigError, match=r"nodes on 2 machines, but MLflow's store sqlite:///"):
        check_store([CPUS, other])
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    check_store([CPUS, other])


def test_without_ray_and_with_a_clients_address_it_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ray_cluster.DEFAULTS:
        monkeypatch.setenv(name, "0")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(ConfigError, match=r"pip install 'ray>=2\.60"), connected():
            pass
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ConfigError, match="run the study on the cluster instead"), connected():
        pass


def test_what_workers_are_given_is_not_shown() -> None:
    settings = Settings({"MLFLOW_TRACKING_PASSWORD": "secret-9"}, "/folder", 20)
    assert "secret-9" not in repr(settings)
