"""A local tracking server with the set-up of a team: PostgreSQL, logins, proxied artifacts.

    eval "$(python scripts/tracking_server.py start --folder /tmp/tracking)"
    python scripts/tracking_server.py status --folder /tmp/tracking
    python scripts/tracking_server.py stop --folder /tmp/tracking [--only-mlflow]

`start` starts whatever is not running and prints the MLFLOW_TRACKING_* variables that clients need.
A folder that was used before keeps its data, port and password. The script needs Debian's package
`postgresql`, and Flask-WTF and psycopg2-binary in MLflow's environment.
"""

import base64
import configparser
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

HOST = "127.0.0.1"
OWNER = "mlflow"  # of the databases
DATABASES = "tracking", "users", "optuna"
MARK = "TRACKING_SERVER_FOLDER"  # in the environment of every process of an MLflow server
SHORTEST = 12  # characters of a password that MLflow accepts
PATIENCE = 120.0  # seconds within which MLflow must answer
GRACE = 15.0  # seconds to finish open requests
# PostgreSQL refuses to run as root.
RUN_AS = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()


@dataclass
class Settings:
    """The settings of a server, stored in server.json in its folder."""

    port: int
    auth: bool
    user: str
    password: str
    database_port: int
    database_password: str
    secret_key: str

    @property
    def uri(self) -> str:
        """The address of MLflow."""
        return f"http://{HOST}:{self.port}"

    def database(self, name: str, scheme: str = "postgresql+psycopg2") -> str:
        """The URI of a database, without the password, which is in PGPASSWORD."""
        return f"{scheme}://{OWNER}@{HOST}:{self.database_port}/{name}"


def load(folder: Path) -> Settings | None:
    """The stored settings; None if the folder is new."""
    path = folder / "server.json"
    return Settings(**json.loads(path.read_text())) if path.is_file() else None


def save(folder: Path, settings: Settings) -> None:
    """Store the settings in a file that only its owner can read."""
    path = folder / "server.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(asdict(settings), indent=2) + "\n")


def say(text: str) -> None:
    """Print to stderr, because the shell evaluates stdout."""
    click.echo(text, err=True)


def free(port: int = 0) -> int:
    """The port if it is free; with 0, any free port."""
    try:
        with socket.create_server((HOST, port)) as server:
            found: int = server.getsockname()[1]
            return found
    except OSError as error:
        raise click.ClickException(f"port {port} cannot be used: {error.strerror}") from error


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def wait(done: Callable[[], bool], seconds: float) -> bool:
    """Whether `done` becomes true within that time."""
    end = time.monotonic() + seconds
    while not (finished := done()) and time.monotonic() < end:
        time.sleep(0.1)
    return finished


def binary(name: str) -> str:
    """A program of the newest PostgreSQL."""
    found = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(found, key=lambda path: float(path.parts[4]), default=None)
    if newest is None:
        raise click.ClickException(f"{name} is missing: apt-get install postgresql")
    return str(newest)


def run(*command: str, read: str = "", password: str = "") -> None:
    """Run a PostgreSQL program and wait; if it fails, its output is the error message."""
    result = subprocess.run(
        command, input=read, cwd="/", env={**os.environ, "PGPASSWORD": password},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if result.returncode:
        raise click.ClickException(f"{shlex.join(command)}\n{result.stdout}".strip())


def database_is_up(folder: Path) -> bool:
    """Whether the folder's PostgreSQL runs."""
    data = folder / "postgresql"
    command = *RUN_AS, binary("pg_ctl"), "status", "-D", str(data)
    return data.is_dir() and not subprocess.run(command, cwd="/", capture_output=True).returncode


def create_cluster(folder: Path, password: str) -> None:
    """Create an empty cluster whose owner has that password."""
    with tempfile.NamedTemporaryFile("w", dir=folder) as file:
        file.write(password)
        file.flush()
        if RUN_AS:
            shutil.chown(file.name, "postgres")
        run(
            *RUN_AS, binary("initdb"), "-D", str(folder / "postgresql"), "--username", OWNER,
            "--auth", "scram-sha-256", "--pwfile", file.name, "--encoding", "UTF8",
            "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip


def start_database(folder: Path, settings: Settings) -> None:
    """Start PostgreSQL and create the databases that are missing."""
    data, log = folder / "postgresql", folder / "postgresql.log"
    data.mkdir(mode=0o700, exist_ok=True)
    log.touch()
    if RUN_AS:
        for path in (data, log):
            shutil.chown(path, "postgres")
        if subprocess.run([*RUN_AS, "test", "-w", str(data)], cwd="/").returncode:
            raise click.ClickException(
                f"the user postgres cannot access {folder}; choose one that other users can enter"
            )
    if not (data / "PG_VERSION").is_file():
        create_cluster(folder, settings.database_password)
    # The Unix socket is in the cluster's own folder.
    listen = f"-h {HOST} -p {settings.database_port} -k ."
    try:
        run(
            *RUN_AS, binary("pg_ctl"), "start", "--wait", "-D", str(data), "-l", str(log),
            "-o", listen,
        )  # fmt: skip
    except click.ClickException as error:
        raise click.ClickException(f"PostgreSQL did not start:\n{tail(log)}") from error
    names = ", ".join(f"('{name}')" for name in DATABASES)
    create = (
        f"SELECT 'CREATE DATABASE ' || name FROM (VALUES {names}) AS wanted (name) "
        "WHERE name NOT IN (SELECT datname FROM pg_database) \\gexec"
    )
    run(
        binary("psql"), "--no-psqlrc", "-v", "ON_ERROR_STOP=1",
        settings.database("postgres", "postgresql"),
        read=create, password=settings.database_password,
    )  # fmt: skip


def stop_database(folder: Path) -> None:
    """Stop PostgreSQL if it runs."""
    if database_is_up(folder):
        data = str(folder / "postgresql")
        run(*RUN_AS, binary("pg_ctl"), "stop", "--wait", "-m", "fast", "-D", data)


def mlflow_processes(folder: Path) -> list[int]:
    """The processes of the folder's MLflow server, found by a variable in their environment."""
    mark = f"\0{MARK}={folder}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if mark in b"\0" + environment:
            found.append(int(path.parent.name))
    return found


def answers(settings: Settings) -> bool:
    """Whether MLflow is healthy and accepts the login."""
    # A proxy set in the environment must not be used for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    login = base64.b64encode(f"{settings.user}:{settings.password}".encode()).decode()
    if settings.auth:
        opener.addheaders.append(("Authorization", f"Basic {login}"))
    try:
        for path in ("/health", "/api/2.0/mlflow/experiments/search?max_results=1"):
            with opener.open(f"{settings.uri}{path}", timeout=10):
                pass
    except urllib.error.HTTPError as error:
        raise click.ClickException(f"{error.url} answers {error.code} {error.reason}") from error
    except OSError:
        return False
    return True


def start_mlflow(folder: Path, settings: Settings, workers: int) -> None:
    """Start MLflow and wait until it answers."""
    free(settings.port)
    access = configparser.ConfigParser(interpolation=None)
    access["mlflow"] = {
        "default_permission": "READ",
        "database_uri": settings.database("users"),
        "admin_username": settings.user,
        "admin_password": settings.password.replace("%", "%%"),  # MLflow interpolates
    }
    (folder / "auth.ini").touch(mode=0o600)
    with (folder / "auth.ini").open("w") as file:
        access.write(file)
    # Client settings must not reach the server.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {
        **clean,
        MARK: str(folder),
        "PGPASSWORD": settings.database_password,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": settings.secret_key,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves eight processes
    }
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(settings.port),
        "--workers", str(workers), "--backend-store-uri", settings.database("tracking"),
        "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"),
        *(["--app-name", "basic-auth"] if settings.auth else []),
    ]  # fmt: skip
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ended() -> bool:
        return process.poll() is not None

    if not wait(lambda: ended() or answers(settings), PATIENCE) or ended():
        raise click.ClickException(f"MLflow did not start:\n{tail(folder / 'mlflow.log')}")


def stop_mlflow(folder: Path) -> None:
    """End all MLflow processes, by force if they do not end when asked to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in mlflow_processes(folder):
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue
        if wait(lambda: not mlflow_processes(folder), GRACE):
            return
    raise click.ClickException(f"MLflow could not be stopped: {mlflow_processes(folder)} still run")


def settle(
    folder: Path, port: int | None, auth: bool | None, user: str | None, password: str | None
) -> Settings:
    """The stored settings of a folder, with the given ones in place of the stored ones."""
    if password is not None and len(password) < SHORTEST:
        raise click.UsageError(f"MLflow requires a password of at least {SHORTEST} characters")
    said = {"port": port, "auth": auth, "user": user, "password": password}
    given = {name: value for name, value in said.items() if value is not None}
    if known := load(folder):
        changed = {name for name, value in given.items() if value != getattr(known, name)}
        if changed & {"user", "password"}:
            raise click.UsageError(f"{folder} has another user or password; see its server.json")
        if changed and mlflow_processes(folder):
            raise click.UsageError("MLflow is running with other settings; stop it first")
        return Settings(**{**asdict(known), **given})
    return Settings(
        port=free() if port is None else port,
        auth=auth is not False,
        user=user or "admin",
        password=password or secrets.token_urlsafe(16),
        database_port=0,
        database_password=secrets.token_urlsafe(16),
        secret_key=secrets.token_urlsafe(16),
    )


@click.group(help=__doc__)
def cli() -> None:
    """A tracking server that only this machine can reach."""


folder_option = click.option(
    "--folder", required=True, help="Folder of data, settings and logs.",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
)  # fmt: skip


@cli.command()
@folder_option
@click.option("--port", type=int, help="Port of MLflow; by default a free one.")
@click.option("--auth/--no-auth", default=None, help="Whether clients must log in; on by default.")
@click.option("--user", help="Name of the administrator; admin by default.")
@click.option("--password", help="The administrator's password; random by default.")
@click.option("--workers", default=2, show_default=True, help="Server processes of MLflow.")
def start(
    folder: Path,
    port: int | None,
    auth: bool | None,
    user: str | None,
    password: str | None,
    workers: int,
) -> None:
    """Start what is not running, and print the variables for clients."""
    settings = settle(folder, port, auth, user, password)
    undo: list[Callable[[Path], None]] = []
    try:
        if not database_is_up(folder):
            folder.mkdir(parents=True, exist_ok=True)
            settings.database_port = free()
            save(folder, settings)
            say(f"starting PostgreSQL on port {settings.database_port}")
            undo.append(stop_database)
            start_database(folder, settings)
        if not mlflow_processes(folder):
            save(folder, settings)
            say(f"starting MLflow on port {settings.port}")
            undo.append(stop_mlflow)
            start_mlflow(folder, settings, workers)
        elif not answers(settings):
            raise click.ClickException(f"MLflow is running but does not answer at {settings.uri}")
    except BaseException:
        for function in reversed(undo):
            function(folder)
        raise
    variables = {"MLFLOW_TRACKING_URI": settings.uri}
    if settings.auth:
        variables["MLFLOW_TRACKING_USERNAME"] = settings.user
        variables["MLFLOW_TRACKING_PASSWORD"] = settings.password
    # For `tune`, as `-P storage=$OPTUNA_STORAGE`; the password is in its own variable.
    variables["OPTUNA_STORAGE"] = settings.database("optuna")
    variables["PGPASSWORD"] = settings.database_password
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@cli.command()
@folder_option
@click.option("--only-mlflow", is_flag=True, help="Keep PostgreSQL running (an outage of MLflow).")
def stop(folder: Path, only_mlflow: bool) -> None:
    """Stop MLflow and PostgreSQL; the data are kept."""
    stop_mlflow(folder)
    if not only_mlflow:
        stop_database(folder)


@cli.command()
@folder_option
def status(folder: Path) -> None:
    """Print what is running; exit code 1 unless both are."""
    settings = load(folder)
    database, mlflow = database_is_up(folder), bool(mlflow_processes(folder))
    healthy = mlflow and settings is not None and answers(settings)
    say(f"PostgreSQL: {'up' if database else 'down'}")
    say(f"MLflow: {'up' if healthy else 'does not answer' if mlflow else 'down'}")
    sys.exit(not (database and healthy))


if __name__ == "__main__":
    cli()
