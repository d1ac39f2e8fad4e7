"""A server on loopback that speaks vLLM's wire format about a tiny model, for tests.

It computes by whole passes of the transformers model, one sequence at a time. tests/real has vLLM.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import torch

from isogloss.config.engine import Engine
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel


@dataclass
class TinyVllm:
    """What the server does, and the prompts that it was asked about (`asked`)."""

    model: LanguageModel
    name: str = "tiny"
    version: str = "0.32.0"
    top: int = 5
    exact: bool = True  # returns the log-probabilities of the tokens that are asked for
    applies_adapters: bool = True
    refused: set[tuple[int, ...]] = field(default_factory=set)  # prompts that get status 400
    listed: dict[str, str] = field(default_factory=dict)  # adapters at its start: folder by name
    loaded: dict[str, str] = field(default_factory=dict)  # digests by name
    asked: list[tuple[int, ...]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    def engine(self, **values: object) -> Engine:
        """The engine that asks this server."""
        return Engine.model_validate(
            {"kind": "vllm", "base_url": f"{self.url}/v1", "retries": 0, **values}
        )

    def models(self) -> dict[str, object]:
        base = {"id": self.name, "root": "/models/tiny", "parent": None, "max_model_len": 4096}
        adapters = [
            {"id": name, "root": folder, "parent": self.name}
            for name, folder in self.listed.items()
        ]
        loaded = [
            {"id": name, "root": "/elsewhere", "parent": self.name}
            for name in self.loaded
            if name not in self.listed
        ]
        return {"object": "list", "data": [base, *adapters, *loaded]}

    def load(self, name: str, folder: str) -> None:
        self.loaded[name] = attach(self.model, Path(folder))

    @torch.inference_mode()
    def logprobs(self, model: str, tokens: Sequence[int]) -> torch.Tensor:
        if model in self.listed and model not in self.loaded:
            self.load(model, self.listed[model])
        digest = self.loaded[model] if model != self.name and self.applies_adapters else None
        with self.model.using(digest):
            logits = self.model.network(input_ids=torch.tensor([list(tokens)])).logits
        return logits[0].float().log_softmax(-1)

    def complete(self, body: dict) -> dict[str, object]:
        prompt = list(body["prompt"])
        self.asked.append(tuple(prompt))
        logprobs = self.logprobs(body["model"], prompt)
        generated, last = list[int](), logprobs[-1]
        for _ in range(body["max_tokens"]):
            generated.append(int(last.argmax()))
            if generated[-1] == 1:  # end of sequence
                break
            if len(generated) < body["max_tokens"]:
                last = self.logprobs(body["model"], [*prompt, *generated])[-1]
        choice: dict[str, object] = {
            "text": self.model.tokenizer.decode(generated),
            "finish_reason": "stop" if generated[-1] == 1 else "length",
            "token_ids": generated,
        }
        if "logprobs" in body:
            wanted = body.get("logprob_token_ids") if self.exact else None
            shown = set(wanted or logprobs[-1].topk(body["logprobs"]).indices.tolist())
            shown.add(generated[0])
            values = {f"token_id:{token}": float(logprobs[-1][token]) for token in shown}
            greedy = f"token_id:{generated[0]}"
            choice["logprobs"] = {
                "tokens": [greedy],
                "token_logprobs": [values[greedy]],
                "top_logprobs": [values],
            }
        if "prompt_logprobs" in body:
            positions: list[object] = [None]
            for at, token in enumerate(prompt[1:]):
                most_likely = int(logprobs[at].argmax())
                positions.append(
                    {
                        other: {"logprob": float(logprobs[at][other])}
                        for other in (token, most_likely)
                    }
                )
            choice["prompt_logprobs"] = positions
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(generated)}
        return {"choices": [choice], "usage": usage}


@contextmanager
def serving(model: LanguageModel, **values: object) -> Iterator[TinyVllm]:
    """A tiny server within a context."""
    tiny = TinyVllm(model, **values)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answers = {"/version": {"version": tiny.version}, "/v1/models": tiny.models()}
            self.answer(200 if self.path in answers else 404, answers.get(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with tiny.lock:
                if self.path == "/v1/load_lora_adapter":
                    tiny.load(body["lora_name"], body["lora_path"])
                    self.answer(200, "Success")
                elif tuple(body["prompt"]) in tiny.refused:
                    self.answer(400, {"error": {"message": "this prompt is refused"}})
                elif body.get("logprobs", 0) > tiny.top:
                    self.answer(400, {"error": {"message": "too many log-probabilities"}})
                else:
                    content = tiny.complete(body)
                    with suppress(BrokenPipeError):  # the client has given up
                        self.answer(200, content)

        def answer(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # connections at once

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tiny.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield tiny
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
