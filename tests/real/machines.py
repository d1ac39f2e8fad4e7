"""Machines that share a PostgreSQL and a file system: namespaces with an own network, host name and
processes, where the tests are allowed to make them (root on Linux).
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.tracking_server import RUN_AS, binary, free

ROOT = Path(__file__).parents[2]
NETWORK = "10.77"
OWNER = "isogloss"


def can_make() -> bool:
    """Whether this process may make namespaces."""
    tools = all(shutil.which(tool) for tool in ("ip", "unshare"))
    made = tools and os.geteuid() == 0 and subprocess.run(
        ["ip", "netns", "add", "isogloss-probe"], capture_output=True
    ).returncode == 0  # fmt: skip
    if made:
        subprocess.run(["ip", "netns", "delete", "isogloss-probe"], check=True)
    return made


@dataclass(frozen=True)
class Machine:
    """A machine: the words before a command that run it there, and PostgreSQL's address from it."""

    name: str
    prefix: tuple[str, ...]
    database_host: str


@contextmanager
def machine(number: int) -> Iterator[Machine]:
    """A machine with a network of its own; PostgreSQL listens at the other end of its cable."""
    name, here, there = f"isogloss{number}", f"{NETWORK}.{number}.1", f"{NETWORK}.{number}.2"
    cable = f"iso{number}"
    commands = [
        f"ip netns add {name}",
        f"ip link add {cable} type veth peer name {cable}p netns {name}",
        f"ip address add {here}/24 dev {cable}",
        f"ip link set {cable} up",
        f"ip -n {name} address add {there}/24 dev {cable}p",
        f"ip -n {name} link set {cable}p up",
        f"ip -n {name} link set lo up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        prefix = f"ip netns exec {name} unshare --uts --pid --fork --mount-proc --kill-child"
        own = ("sh", "-c", f'hostname {name}; exec "$@"', "sh")
        yield Machine(name, (*prefix.split(), *own), here)
    finally:
        subprocess.run(["ip", "link", "delete", cable], capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@dataclass(frozen=True)
class Database:
    """A PostgreSQL with an empty database."""

    port: int
    password: str

    def url(self, host: str) -> str:
        """Its URL from a machine; the password is in it, as people write it."""
        return f"postgresql+psycopg2://{OWNER}:{self.password}@{host}:{self.port}/store"


@contextmanager
def postgresql(hosts: Sequence[str]) -> Iterator[Database]:
    """A PostgreSQL that listens at these addresses."""
    folder = Path(tempfile.mkdtemp(prefix="isogloss-postgresql-"))
    folder.chmod(0o755)
    data, password, port = folder / "data", secrets.token_urlsafe(12), free()
    data.mkdir(mode=0o700)
    secret = folder / "secret"
    secret.write_text(password)
    if RUN_AS:
        shutil.chown(folder, "postgres")
        shutil.chown(data, "postgres")
        shutil.chown(secret, "postgres")

    def run(*command: str) -> None:
        done = subprocess.run([*RUN_AS, *command], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run(binary("initdb"), "-D", str(data), "--username", OWNER, "--auth", "scram-sha-256",
        "--pwfile", str(secret), "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")  # fmt: skip
    with (data / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {NETWORK}.0.0/16 scram-sha-256\n")
    options = f"-h {','.join(hosts)} -p {port} -k . -c fsync=off"
    try:
        run(binary("pg_ctl"), "start", "--wait", "-D", str(data), "-l", f"{folder}/log",
            "-o", options)  # fmt: skip
        url = f"postgresql://{OWNER}@{hosts[0]}:{port}/postgres"
        subprocess.run([binary("psql"), url, "-c", "CREATE DATABASE store"], cwd="/", check=True,
                       capture_output=True, env={**os.environ, "PGPASSWORD": password})  # fmt: skip
        yield Database(port, password)
    finally:
        with suppress(AssertionError):
            run(binary("pg_ctl"), "stop", "-m", "immediate", "-D", str(data))
        shutil.rmtree(folder)


WORKER = """
import json, sys, time
from pathlib import Path
from isogloss import logs
from isogloss.training import loop
accumulate = loop._accumulate_gradients
calls = []
def slow(*args):
    calls.append(1)
    time.sleep({pause})
    while len(calls) > 5 and {held} and not Path("go").exists():
        time.sleep(0.1)
    return accumulate(*args)
loop._accumulate_gradients = slow
from isogloss.config import StudyConfig
from isogloss.errors import IsoglossError
from isogloss.stages.cell import run_cell
from isogloss.stages.session import Session
from isogloss.tracking.store import ensure_store
logs.configure()
ensure_store()
study = StudyConfig.model_validate(json.loads(sys.argv[1]))
session = Session(study.model, study.dtype)
try:
    for name in sys.argv[2:]:
        print(name, run_cell(study, name, session=session).info.run_id, flush=True)
except IsoglossError as error:
    sys.exit(str(error))
"""


class Worker:
    """A process on a machine that runs cells of a study one after another.

    It waits `pause` seconds before each training step; one that is `held` goes beyond the fifth step
    of a training only when there is a file `go`.
    """

    def __init__(
        self, machine: Machine, study: dict[str, object], cells: Sequence[str], pause: float,
        held: bool, **variables: str,
    ) -> None:  # fmt: skip
        self.began = time.monotonic()
        self.log = Path(f"{machine.name}-{time.monotonic_ns()}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*machine.prefix, sys.executable, "-c", WORKER.format(pause=pause, held=held),
                 json.dumps(study), *cells],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
                     **variables},
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the Python process, not to those that made its namespace."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        (below[-1] if below else psutil.Process(self.process.pid)).send_signal(number)

    def logged(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8", errors="replace")

    def finish(self, seconds: float = 240) -> dict[str, str]:
        """Wait for it; the run of each cell."""
        stdout, _ = self.process.communicate(timeout=seconds)
        return dict(line.split() for line in stdout.splitlines())

    def end(self) -> None:
        """Kill it if it still runs."""
        with suppress(psutil.NoSuchProcess):
            self.send(signal.SIGKILL)
        self.process.kill()
        self.process.communicate()
