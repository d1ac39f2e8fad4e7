"""Builds llama.cpp's server from the source in llama-cpp-python, for the tests that use it.

    python -m scripts.build_llama_server FOLDER

Needs cmake, ninja and a C++ compiler, and some ten minutes on one core. The program is
FOLDER/llama-server; tests find it in PATH or by LLAMA_SERVER.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.3.36"  # of llama-cpp-python
OPTIONS = (
    "CMAKE_BUILD_TYPE=Release",
    "BUILD_SHARED_LIBS=OFF",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_EXAMPLES=OFF",
    "LLAMA_BUILD_UI=OFF",
    "LLAMA_USE_PREBUILT_UI=OFF",
    "LLAMA_OPENSSL=OFF",
    "GGML_OPENMP=OFF",
)


def main() -> None:
    """Download the source, build the server, and keep the program alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = f"llama-cpp-python=={VERSION}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        source_only = ["--no-binary", "llama-cpp-python", package]
        subprocess.run([*pip, *source_only], cwd=folder, check=True)
        (package_file,) = folder.glob("*.tar.gz")
        with tarfile.open(package_file) as archive:
            archive.extractall(folder, filter="data")
        (source,) = folder.glob("llama_cpp_python-*/vendor/llama.cpp")
        build = folder / "build"
        options = [f"-D{option}" for option in OPTIONS]
        subprocess.run(
            ["cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", *options], check=True
        )
        jobs = ["-j", str(arguments.jobs)]
        subprocess.run(
            ["cmake", "--build", str(build), *jobs, "--target", "llama-server"], check=True
        )
        arguments.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(build / "bin/llama-server", arguments.folder / "llama-server")


if __name__ == "__main__":
    main()
