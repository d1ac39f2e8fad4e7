"""The address that `make ui` prints."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import mlflow
import pytest

from scripts.ui_address import address, main


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    return "mlflow.db"


def test_the_address_is_that_of_the_runs_of_the_experiment(store):
    mlflow.MlflowClient("sqlite:///mlflow.db").create_experiment("other")
    made = mlflow.MlflowClient("sqlite:///mlflow.db").create_experiment("isogloss")
    expected = f"http://127.0.0.1:5001/#/experiments/{made}/runs?workflowType=machine_learning"
    assert address(store, "5001") == expected


def test_without_a_store_the_address_is_that_of_all_experiments(tmp_path):
    file = tmp_path / "none.db"
    expected = "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
    assert address(str(file), "5000") == expected
    assert not file.exists()


def test_a_port_that_is_in_use_is_refused_with_the_way_out(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(str(port)) == 2
    assert capsys.readouterr().err == (
        f"port {port} is in use; choose another with make ui PORT={port + 1}\n"
    )
    assert main(str(port)) == 0
    assert f"http://127.0.0.1:{port}/#/" in capsys.readouterr().out


@pytest.mark.parametrize("port", ["0", "65536", "five", "-1", ""])
def test_what_is_no_port_is_refused(port, capsys):
    assert main(port) == 2
    assert f"PORT is {port!r}; expected a number" in capsys.readouterr().err


def test_the_server_gets_the_signal_that_ends_make(tmp_path):
    """`make ui` has one child, without a shell between, which would keep the signal to itself."""
    root = Path(__file__).parents[2]
    shutil.copy(root / "Makefile", tmp_path)
    program = tmp_path / "bin" / "mlflow"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\ntrap 'touch ended; exit' TERM\ntouch started\nfor _ in $(seq 900); do sleep 0.1; done\n"
    )
    program.chmod(0o755)
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    make = subprocess.Popen(
        ["make", "ui", "BIN=bin", "--old-file", "install"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
    )
    _wait_for(tmp_path / "started")
    make.send_signal(signal.SIGTERM)
    make.wait(timeout=60)
    _wait_for(tmp_path / "ended")


def _wait_for(file):
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until, f"{file.name} did not appear"
        time.sleep(0.05)
