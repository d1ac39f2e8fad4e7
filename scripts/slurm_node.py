"""A Slurm cluster of one node on this machine, for trying and testing job arrays.

    eval "$(python scripts/slurm_node.py start --folder /tmp/slurm)"
    squeue
    python scripts/slurm_node.py stop --folder /tmp/slurm

`start` prints SLURM_CONF, which Slurm's commands need. Two partitions share the node: `low`, whose
jobs are requeued when a job of `high` needs their processors. Everything listens on the loopback
address and keeps its files in the folder. The script needs Debian's packages `slurmctld`, `slurmd`,
`slurm-client` and `munge`. There are no cgroups and no accounting.
"""

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import psutil

HOST = "127.0.0.1"
DAEMONS = ("munged", "slurmctld", "slurmd")  # in the order in which they start
PATIENCE = 30.0  # seconds within which the node must be idle
GRACE = 10.0  # seconds for a daemon to end
CPUS = 2
GPUS = ("/dev/null", "/dev/zero")  # files that stand for two GPUs, so that jobs can request some

# `cred_expire` is also the time for which a requeued job waits before it may start again.
CONFIGURATION = """\
ClusterName=isogloss
SlurmctldHost={name}({host})
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
MinJobAge=600
ReturnToService=2
NodeName={name} NodeAddr={host} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=low Nodes={name} Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=high Nodes={name} MaxTime=INFINITE PriorityTier=2 State=UP
"""


def program(name: str) -> str:
    """The path of a program of Slurm or MUNGE."""
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=search)
    if found is None:
        raise click.ClickException(
            f"{name} is missing: apt-get install slurmctld slurmd slurm-client munge"
        )
    return found


def free_port() -> int:
    """A free port of the loopback address."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def configure(folder: Path) -> None:
    """Write the key and the configuration of a new folder."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    if not key.exists():
        subprocess.run([program("mungekey"), "--create", f"--keyfile={key}"], check=True)
    text = CONFIGURATION.format(
        name=socket.gethostname().partition(".")[0], host=HOST, folder=folder,
        controller=free_port(), node=free_port(), user=pwd.getpwuid(os.geteuid()).pw_name,
        cpus=CPUS, gpus=len(GPUS), memory=psutil.virtual_memory().total // 2**20,
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text, "utf-8")
    (folder / "gres.conf").write_text(f"Name=gpu File={','.join(GPUS)}\n", "utf-8")


def environment(folder: Path) -> dict[str, str]:
    """The environment of Slurm's commands and daemons."""
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}


def command(daemon: str, folder: Path) -> list[str]:
    """The command of a daemon in the foreground."""
    if daemon == "munged":
        files = [
            f"--{option}={folder}/munge.{ending}"
            for option, ending in (
                ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"),
                ("log-file", "log"), ("seed-file", "seed"),
            )
        ]  # fmt: skip
        return [program("munged"), "--foreground", "--num-threads=2", *files]
    return [program(daemon), "-D", *(["-c"] if daemon == "slurmctld" else [])]  # no old jobs


def running(daemon: str, folder: Path) -> psutil.Process | None:
    """A daemon that `start` has started, by the id and the start time in its file."""
    try:
        number, started = (folder / f"{daemon}.started").read_text("utf-8").split()
        process = psutil.Process(int(number))
        return process if f"{process.create_time():.2f}" == started else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def start_daemon(daemon: str, folder: Path) -> None:
    """Start a daemon that is not running."""
    if running(daemon, folder):
        return
    with (folder / f"{daemon}.log").open("ab") as log:
        process = subprocess.Popen(
            command(daemon, folder), env=environment(folder), cwd=folder,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    started = psutil.Process(process.pid).create_time()
    (folder / f"{daemon}.started").write_text(f"{process.pid} {started:.2f}", "utf-8")


def node_is_up(folder: Path) -> bool:
    """Whether the controller answers and its node takes jobs."""
    shown = subprocess.run(
        [program("sinfo"), "--noheader", "--format=%T"], env=environment(folder),
        capture_output=True, text=True,
    )  # fmt: skip
    states = set(shown.stdout.split())
    return bool(states) and states <= {"idle", "mixed", "allocated"}


def wait(done: Callable[[], bool], seconds: float) -> bool:
    """Whether `done` becomes true within that time."""
    end = time.monotonic() + seconds
    while not (finished := done()) and time.monotonic() < end:
        time.sleep(0.1)
    return finished


def end_jobs(folder: Path) -> None:
    """Cancel all jobs, and wait until none runs, so that no process of theirs stays."""
    subprocess.run(
        [program("scancel"), "--state=PENDING"], env=environment(folder), capture_output=True
    )
    name = pwd.getpwuid(os.geteuid()).pw_name
    subprocess.run(
        [program("scancel"), f"--user={name}"], env=environment(folder), capture_output=True
    )

    def none_left() -> bool:
        shown = subprocess.run(
            [program("squeue"), "--noheader"], env=environment(folder), capture_output=True
        )
        return not shown.stdout.strip()

    wait(none_left, 2 * GRACE)


def end(daemon: str, folder: Path) -> None:
    """End a daemon that runs: by SIGTERM, then by SIGKILL."""
    process = running(daemon, folder)
    if process is None:
        return
    process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs([process], timeout=GRACE)
    for still in left:
        still.kill()
    psutil.wait_procs(left, timeout=GRACE)


@click.group(help=__doc__)
def cli() -> None:
    """A Slurm cluster that only this machine can reach."""


folder_option = click.option(
    "--folder", required=True, help="Folder of configuration, state and logs.",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
)  # fmt: skip


@cli.command()
@folder_option
def start(folder: Path) -> None:
    """Start what is not running, and print the variable for clients."""
    if not any(running(daemon, folder) for daemon in DAEMONS):
        configure(folder)
    for daemon in DAEMONS:
        start_daemon(daemon, folder)
        if daemon == "munged":
            wait((folder / "munge.socket").exists, PATIENCE)
    if not wait(lambda: node_is_up(folder), PATIENCE):
        logs = [f"{folder}/{daemon}.log" for daemon in DAEMONS]
        stop_all(folder)
        raise click.ClickException(f"the node did not come up; see {', '.join(logs)}")
    click.echo(f"export SLURM_CONF={shlex.quote(str(folder / 'slurm.conf'))}")


def stop_all(folder: Path) -> None:
    """End the jobs and the daemons."""
    if running("slurmctld", folder):
        end_jobs(folder)
    for daemon in reversed(DAEMONS):
        end(daemon, folder)


@cli.command()
@folder_option
def stop(folder: Path) -> None:
    """End all jobs and all daemons."""
    stop_all(folder)


@cli.command()
@folder_option
def status(folder: Path) -> None:
    """Print which daemons run; exit code 1 unless all do."""
    found = {daemon: running(daemon, folder) for daemon in DAEMONS}
    for daemon, process in found.items():
        click.echo(f"{daemon}: {f'runs as {process.pid}' if process else 'does not run'}")
    sys.exit(not all(found.values()))


if __name__ == "__main__":
    cli()
