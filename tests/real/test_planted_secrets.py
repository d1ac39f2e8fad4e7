"""Secrets planted in every place where a user may write one are found nowhere afterwards.

Not in output, logs, runs, artifacts, reports, the cache, the journal of a search or the databases.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import mlflow
import pytest
import sqlalchemy as sql
import yaml
from imported_files import DATA

from real.machines import Database, binary, postgresql
from real.processes import wait_for

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
USER = "me@work"  # an @ in the user
SECRETS = {
    "tracking": "s3cret@of:the/tracking#store",  # an @ in the password
    "storage": "s3cret&of=the?storage",
    "leases": "s3cret-of-the-leases",
    "wrong": "s3cret@that:is/wrong",
    "HF_TOKEN": "hf_s3cretTokenOfTheHub",
    "OPENAI_API_KEY": "sk-s3cret-of-the-server",
    "AWS_SECRET_ACCESS_KEY": "s3cret/of+the+bucket",
    "MLFLOW_TRACKING_PASSWORD": "s3cret-of-the-login",
}
PROGRAM = """
import json, sys
from isogloss.cli.main import program
for arguments in json.loads(sys.argv[1]):
    try:
        program(arguments)
    except SystemExit as ended:
        print("exit", arguments[0], ended.code, flush=True)
"""

SERVED = """
import sys
from types import ModuleType
sys.modules["mlflow.pyfunc.scoring_server.app"] = ModuleType("app")  # as in a server's process
import mlflow
from fastapi.testclient import TestClient
from mlflow.pyfunc.scoring_server import init
client = TestClient(init(mlflow.pyfunc.load_model(sys.argv[1])))
good = b'{"inputs": [{"passage": "p", "question": "q", "options": ["a", "b"]}]}'
for body in (good, good.replace(b'"q"', b"7"), b"[" * 100_000, b'{"inputs": 7}', b"x"):
    answer = client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
    print("status", answer.status_code, answer.text, flush=True)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A PostgreSQL with a role for each password, which owns a database of the same name."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        pytest.skip("planted secrets want PostgreSQL: apt-get install postgresql")
    with postgresql(["127.0.0.1"]) as server:
        engine = sql.create_engine(server.url("127.0.0.1"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name, role in (("tracking", USER), ("storage", "tuner"), ("leases", "lessor")):
                password = SECRETS[name].replace("'", "''")
                connection.exec_driver_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'")
                connection.exec_driver_sql(f'CREATE DATABASE {name} OWNER "{role}"')
        yield server


def addresses(port: int) -> dict[str, str]:
    """The databases as a user writes them."""
    driver, host = "postgresql+psycopg2", f"127.0.0.1:{port}"
    login = f"{USER}:{quote(SECRETS['tracking'], safe='')}"
    wrong = f"{USER}:{quote(SECRETS['wrong'], safe='')}"
    storage = quote_plus(SECRETS["storage"])
    return {
        "tracking": f"{driver}://{login}@{host}/tracking",
        "wrong": f"{driver}://{wrong}@{host}/tracking",
        "storage": f"{driver}:///storage?host=127.0.0.1&port={port}&user=tuner&password={storage}",
        "wrong storage": f"{driver}://{host}/storage?user=tuner&password={quote_plus(SECRETS['wrong'])}",
        "leases": f"{driver}://lessor:{SECRETS['leases']}@{host}/leases",
        "server": f"http://{quote(SECRETS['wrong'], safe='')}@127.0.0.1:9/v1#name",
    }


def environment(tracking: str, leases: str, folder: Path) -> dict[str, str]:
    """The environment of a user who has planted secrets."""
    keys = {name: value for name, value in SECRETS.items() if name.isupper()}
    variables = {
        **os.environ, **keys, "HOME": str(folder), "ISOGLOSS_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": tracking,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "ISOGLOSS_PATIENCE": "1",
        "ISOGLOSS_LEASES": leases,
    }  # fmt: skip
    variables.pop("ISOGLOSS_UNFINISHED", None)  # unfinished work is in the cache
    return variables


def run(commands: list[list[str]], tracking: str, leases: str, folder: Path) -> str:
    """What the program prints, in one process for all commands."""
    return python(PROGRAM, json.dumps(commands), environment(tracking, leases, folder), folder)


def python(code: str, argument: str, variables: dict[str, str], folder: Path) -> str:
    """What a process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, argument], cwd=folder, env=variables, capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    return done.stdout + done.stderr


def interrupted(command: list[str], variables: dict[str, str], folder: Path, number: int) -> str:
    """What a training prints that a signal ends in the middle of its work."""
    with (folder / "interrupted.txt").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "isogloss", *command], cwd=folder, env=variables, stdout=said,
            stderr=said,
        )  # fmt: skip
        try:
            wait_for(lambda: any((folder / "cache").rglob("metrics.jsonl")))
            process.send_signal(number)
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        return said.read()


def at_once(command: list[str], variables: dict[str, str], folder: Path, number: int) -> str:
    """What several processes of the same command print; each must succeed."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "isogloss", *command], cwd=folder, env=variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(number)
    ]  # fmt: skip
    try:
        said = [worker.communicate(timeout=600)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0] * number, said
    return "".join(said)


def spellings(secret: str) -> set[bytes]:
    """A secret as it is and as URLs, JSON and HTML write it."""
    texts = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    texts |= {json.dumps(text)[1:-1] for text in texts}
    texts |= {text.replace("&", "&amp;") for text in texts}
    return {text.encode() for text in texts}


def leaks(content: bytes) -> list[str]:
    return [
        name
        for name, secret in SECRETS.items()
        if any(spelling in content for spelling in spellings(secret))
    ]


def test_a_leak_would_be_found() -> None:
    for name, address in addresses(5432).items():
        assert leaks(address.encode()), name
    assert not leaks(b"postgresql://me@work:***@host/tracking")


def test_planted_secrets_are_found_nowhere(
    database: Database, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    address = addresses(database.port)
    space = {"learning_rate": [1e-3, 1e-2], "rank": 2, "steps": 2, "batch_size": 2}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    study = {
        "study": "secrets", "model": str(model_folder("gemma3")), "dtype": "float32", "limit": 4,
        "languages": ["arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn"],
        "finetune": {"steps": 2, "batch_size": 2, "rank": 2, "dev_limit": 4},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    tiny = ["--model", str(model_folder("gemma3")), "--dtype", "float32", "--limit", "4"]
    train = [*tiny, "--steps", "2", "--batch_size", "2", "--rank", "2", "--dev_limit", "4"]
    tune = [*tiny, "--space", "space.yaml", "--dev_limit", "4", "--trials", "2", "--study", "tuned"]
    succeed = [
        ["main", "--verbose", "--study", "study.yaml"],
        ["finetune", *train, "--register_as", "auto"],
        ["evaluate", *tiny, "--languages", "heb_Hebr", "--adapter",
         "models:/isogloss-probe-arb_Arab@candidate"],
        ["register", "--adapter", "models:/isogloss-probe-arb_Arab@candidate", "--alias", "champion"],
        ["compare", "--study", "secrets", "--margin", "0.04"],
        ["tune", *tune, "--storage", address["storage"]],
        ["import", "--path", str(DATA / "quiz.json"), "--source", "arb_Arab", "--task", "quiz",
         "--model", "m", "--condition", "base"],
        ["plan", "--control", "8", "--study", "secrets"],
        ["cells", "study.yaml"],
        ["doctor"],
    ]  # fmt: skip
    refused = [
        ["tune", *tune, "--storage", address["wrong storage"]],
        ["tune", *tune, "--storage", f"redis://me:{SECRETS['wrong']}@host/0"],
        ["evaluate", *tiny[2:], "--model", address["server"]],
        ["evaluate", *tiny, "--engine", f"{{kind: vllm, base_url: '{address['server']}'}}"],
        ["evaluate", *tiny, "--adapter", address["wrong"]],
        ["compare", "--study", address["wrong"]],
        ["import", "--path", address["wrong"], "--source", "arb_Arab"],
        ["register", "--adapter", address["wrong"]],
        ["main", "--study", address["wrong"]],
    ]
    refused = [[command[0], "--verbose", *command[1:]] for command in refused]  # tracebacks, too
    output = run([*succeed, *refused], address["tracking"], address["leases"], tmp_path)
    ended = [line.split()[1:] for line in output.splitlines() if line.startswith("exit ")]
    names = [command[0] for command in [*succeed, *refused]]
    assert [name for name, _ in ended] == names, output[-3000:]
    codes = [int(code) for _, code in ended]
    assert codes == [0] * len(succeed) + [2] * len(refused), list(zip(names, codes, strict=True))
    # Passwords that are wrong, or of a server that is not there.
    elsewhere = "http://me:" + quote(SECRETS["wrong"], safe="") + "@127.0.0.1:9"
    for tracking, leases in (
        (address["wrong"], address["leases"]),
        (elsewhere, address["leases"]),
        (address["tracking"], address["leases"].replace(SECRETS["leases"], SECRETS["wrong"])),
        (f"postgresql+psycopg2://me:{SECRETS['wrong']}@127.0.0.1/tracking", address["leases"]),
    ):
        command = ["finetune", "--verbose", *train, "--seed", "7"]
        said = run([command], tracking, leases, tmp_path)
        assert "exit finetune 2" in said, said[-2000:]
        output += said
    variables = environment(address["tracking"], address["leases"], tmp_path)
    output += python(SERVED, "models:/isogloss-probe-arb_Arab@champion", variables, tmp_path)
    statuses = [line.split()[1] for line in output.splitlines() if line.startswith("status ")]
    assert statuses == ["200", "200", "400", "400", "400"], output[-3000:]
    search = ["tune", "--verbose", *tune[:-1], "shared", "--storage", address["storage"]]
    output += at_once(search, variables, tmp_path, 2)
    long = ["finetune", "--verbose", *train, "--steps", "3000", "--checkpoint_every", "1"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        output += interrupted(long, variables, tmp_path, number)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {"run.json", "metrics.jsonl"} <= {path.name for path in left}
    assert {path.stat().st_mode & 0o777 for path in left} == {0o600}, left
    assert "***" in output
    assert leaks(output.encode()) == [], [
        line for line in output.splitlines() if leaks(line.encode())
    ][:3]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "report.html" for path in files)
    assert any(path.name == "config.json" for path in files)
    assert [(path, leaks(path.read_bytes())) for path in files if leaks(path.read_bytes())] == []
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "cache",)} == {0o700}
    for name in ("tracking", "storage", "leases"):
        url = database.url("127.0.0.1").replace("+psycopg2", "").replace("/store", f"/{name}")
        dump = subprocess.run([binary("pg_dump"), url], capture_output=True, check=True, cwd="/")
        assert len(dump.stdout) > 1000
        assert leaks(dump.stdout) == [], name
    mlflow.set_tracking_uri(address["tracking"])
    kinds = {
        run.data.tags["isogloss.kind"]
        for run in mlflow.search_runs(search_all_experiments=True, output_format="list")
    }
    assert {"study", "evaluate", "finetune", "compare", "plan", "tune", "trial"} <= kinds
