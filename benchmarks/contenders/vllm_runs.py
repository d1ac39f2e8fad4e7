"""vLLM's CPU build: its server on loopback, with prefix caching, asked for log-probabilities.

It gets the token ids of isogloss's prompts. Letters come from the distribution of the next token,
where questions of a passage share cached keys and values. Options are scored by `prompt_logprobs`,
which bypasses the cache. vLLM has an environment of its own: `job["vllm"]` is its program. The
clock runs from the first request to the last answer; the server is started, and asked once, before.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import requests
from requests.adapters import HTTPAdapter

from benchmarks.contenders.job import main
from isogloss.models.locate import locate
from isogloss.models.tokenizers import load_tokenizer
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item, items, open_task
from isogloss.types import Format, Split

CONCURRENCY = (8, 32, 64)  # requests at a time that are tried
CACHE_GB = 2
START_SECONDS = 1200  # it compiles the model at its first start


class Server(NamedTuple):
    """A running server: its address and its process."""

    url: str
    process: psutil.Process

    def processes(self) -> list[psutil.Process]:
        """The process and all that it started."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """CPU time of all processes so far."""
        times = [process.cpu_times() for process in self.processes()]
        return sum(one.user + one.system for one in times)

    def peak_mb(self) -> float:
        """The sum of their peak resident set sizes; pages that they share count once for each."""
        lines = [
            line
            for process in self.processes()
            for line in Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines()
        ]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextmanager
def serve(job: dict[str, Any], binding: str) -> Iterator[Server]:
    """A server of the model with prefix caching and empty caches.

    With the `binding` "auto", vLLM keeps one core for its scheduler; with "nobind" its products
    may use all of them.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [job["vllm"], "serve", job["model"], "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", job["dtype"], "--max-model-len", "2048", "--enable-prefix-caching"]
    command += ["--served-model-name", "model", "--max-num-seqs", str(max(CONCURRENCY))]
    threads = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    settings = {"VLLM_CPU_KVCACHE_SPACE": str(CACHE_GB), "VLLM_NO_USAGE_STATS": "1"}
    settings |= {"VLLM_CPU_OMP_THREADS_BIND": binding, "OMP_NUM_THREADS": threads}
    removed = {"PYTHONPATH", "LD_PRELOAD"}  # vLLM must not import this repository's packages
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    log = Path(job["folder"]) / "vllm.log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            command, env=kept | settings, stdout=written, stderr=subprocess.STDOUT
        ) as started,
    ):
        server = Server(f"http://127.0.0.1:{port}", psutil.Process(started.pid))
        try:
            _wait(server, started, log)
            yield server
        finally:
            processes = server.processes()
            for process in processes:
                process.terminate()
            for process in psutil.wait_procs(processes, timeout=30)[1]:
                process.kill()


def _wait(server: Server, started: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once the server is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and started.poll() is None:
        try:
            if requests.get(f"{server.url}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(1)
    last = (log.read_text("utf-8", "replace").strip().splitlines() or ["nothing in its log"])[-1]
    raise RuntimeError(f"vLLM does not serve: {last[:300]}")


def letter_request(entry: EncodedPrompt) -> dict[str, Any]:
    """One request for the log-probabilities of the letters, which are single tokens."""
    letters = [sequence[-1] for sequence in entry.sequences]
    request = {"prompt": entry.sequences[0][: entry.starts[0]], "logprobs": len(letters)}
    return request | {"logprob_token_ids": letters, "return_tokens_as_token_ids": True}


def letter_scores(entry: EncodedPrompt, answer: dict[str, Any]) -> list[float]:
    """The log-probability of each letter."""
    found = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    return [float(found[f"token_id:{sequence[-1]}"]) for sequence in entry.sequences]


def option_scores(start: int, sequence: Sequence[int], answer: dict[str, Any]) -> float:
    """The log-probability of an option: the sum over its tokens."""
    by_position = answer["choices"][0]["prompt_logprobs"]
    tokens = zip(sequence[start:], by_position[start:], strict=True)
    return sum(float(found[str(token)]["logprob"]) for token, found in tokens)


def ask(
    server: Server, encoded: Sequence[EncodedPrompt], letters: bool, concurrency: int, salt: str
) -> list[list[float]]:
    """The log-likelihoods of the choices of each prompt; nothing is cached across a `salt`."""
    common: dict[str, Any] = {
        "model": "model",
        "max_tokens": 1,
        "temperature": 0,
        "cache_salt": salt,
    }
    with requests.Session() as session, ThreadPoolExecutor(concurrency) as pool:
        session.trust_env = False  # no proxy
        session.mount("http://", HTTPAdapter(pool_maxsize=concurrency))

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            url = f"{server.url}/v1/completions"
            response = session.post(url, json=common | request, timeout=600)
            response.raise_for_status()
            return dict(response.json())

        if letters:
            answers = pool.map(answer, map(letter_request, encoded))
            return [letter_scores(*pair) for pair in zip(encoded, answers, strict=True)]
        pairs = [pair for entry in encoded for pair in zip(*entry, strict=True)]
        whole = [{"prompt": sequence, "prompt_logprobs": 0} for sequence, _ in pairs]
        sums = [
            option_scores(start, sequence, found)
            for (sequence, start), found in zip(pairs, pool.map(answer, whole), strict=True)
        ]
    ends = iter(sums)
    return [[next(ends) for _ in entry.sequences] for entry in encoded]


def _inputs(job: dict[str, Any], limit: int | None) -> tuple[list[Item], list[EncodedPrompt]]:
    """The items, and isogloss's prompts of them."""
    tokenizer = load_tokenizer(locate("embedded"))
    chosen = items(open_task("belebele", job["folder"]), "eng_Latn", Split.ALL, limit)
    protocol = Protocol(format=Format(job["case"]))
    return chosen, encode(tokenizer, [prompt(item, protocol, tokenizer) for item in chosen])


def _bindings() -> tuple[str, ...]:
    """With a single core there is none to keep for the scheduler."""
    return ("nobind",) if len(os.sched_getaffinity(0)) == 1 else ("nobind", "auto")


def try_settings(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds for the letters of some items with each binding and concurrency, and the fastest."""
    _, encoded = _inputs(job, job["limit"])
    tried = {}
    for binding in _bindings():
        with serve(job, binding) as server:
            ask(server, encoded[:1], True, 1, "before")
            for concurrency in CONCURRENCY:
                setting = f"{concurrency} requests, {binding}"
                started = time.perf_counter()
                ask(server, encoded, True, concurrency, setting)
                tried[setting] = time.perf_counter() - started
    return {"tried": tried, "best": min(tried, key=lambda setting: tried[setting])}


def score(job: dict[str, Any]) -> dict[str, Any]:
    """Score all items; CPU time and memory are the server's."""
    chosen, encoded = _inputs(job, None)
    letters = job["case"] == Format.LETTER
    concurrency, _, binding = job["setting"].partition(" requests, ")
    with serve(job, binding) as server:
        ask(server, encoded[:1], letters, 1, "before")
        before, started = server.cpu_seconds(), time.perf_counter()
        scores = ask(server, encoded, letters, int(concurrency), "measured")
        seconds, cpu_seconds = time.perf_counter() - started, server.cpu_seconds() - before
        peak = server.peak_mb()
    answers = {
        item.item_id: _answer(item, sums, letters)
        for item, sums in zip(chosen, scores, strict=True)
    }
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": peak,
        "items": len(chosen),
        "answers": answers,
        "dtype": job["dtype"],
    }


def _answer(item: Item, sums: Sequence[float], letters: bool) -> int:
    """The choice of the highest log-likelihood, of options per character."""
    lengths = [1 if letters else len(option) for option in item.options]
    rates = [value / length for value, length in zip(sums, lengths, strict=True)]
    return rates.index(max(rates))


if __name__ == "__main__":
    main(lambda job: try_settings(job) if "limit" in job else score(job))
