"""A server that speaks SGLang's formats, with a toy model whose log-probabilities are known.

Formats: docs.sglang.io, "Sampling Parameters" and "SGLang Native APIs". Log-probabilities are lists
of [value, token id, text or null]; those of a prompt begin at `logprob_start_len`, and the first has
no value (`_process_input_token_logprobs` in sglang/srt/managers). No log-probability of the prompt
is told at a start of -1. Errors of a request have status 400 and {"error": {"message": ...}}.
"""

import json
import math
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VOCABULARY = 40
END = 1  # the toy's end of text
ADAPTERS = {"tuned": "/adapters/tuned"}
TOO_LONG = 200


def logprobs(ids: Sequence[int], adapter: str | None = None) -> list[float]:
    """Log-probabilities of all tokens after a sequence: a softmax of pseudo-random logits."""
    seed = f"{list(ids)} {adapter}"
    logits = [zlib.crc32(f"{seed} {token}".encode()) % 10007 / 1500 for token in range(VOCABULARY)]
    total = math.log(math.fsum(map(math.exp, logits)))
    return [logit - total for logit in logits]


def greedy(ids: Sequence[int], max_new_tokens: int, adapter: str | None = None) -> list[int]:
    """The toy's most likely continuation, up to and with its end of text."""
    new: list[int] = []
    while len(new) < max_new_tokens and END not in new:
        values = logprobs([*ids, *new], adapter)
        new.append(values.index(max(values)))
    return new


def generated(body: dict) -> dict:
    """The answer to a request of `/generate`."""
    ids, adapter = body["input_ids"], body.get("lora_path")
    new = greedy(ids, body["sampling_params"]["max_new_tokens"], adapter)
    ended = END in new
    meta: dict[str, object] = {
        "id": "toy",
        "finish_reason": {"type": "stop", "matched": END}
        if ended
        else {"type": "length", "length": len(new)},
        "prompt_tokens": len(ids),
        "completion_tokens": len(new),
        "cached_tokens": 0,
    }
    if body.get("return_logprob"):
        steps = [logprobs([*ids, *new[:at]], adapter) for at in range(len(new))]
        meta["output_token_logprobs"] = [
            [values[token], token, None] for values, token in zip(steps, new, strict=True)
        ]
        if wanted := body.get("token_ids_logprob"):
            meta["output_token_ids_logprobs"] = [
                [[values[token], token, None] for token in wanted] for values in steps
            ]
        start = body.get("logprob_start_len", -1)
        if start >= 0:
            before = [None, *(logprobs(ids[:at], adapter) for at in range(start + 1, len(ids)))]
            meta["input_token_logprobs"] = [
                [None if values is None else values[token], token, None]
                for values, token in zip(before, ids[start:], strict=True)
            ]
            meta["input_top_logprobs"] = [
                None if values is None else [[max(values), values.index(max(values)), None]]
                for values in before
            ]
    text = "".join(f"<{token}>" for token in new if token != END)
    return {"text": text, "output_ids": new, "meta_info": meta}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path
        if path == "/get_model_info":
            self._send(200, {"model_path": "toy", "is_generation": True, "tokenizer_path": "toy"})
        elif path == "/get_server_info":
            self._send(200, {"model_path": "toy", "version": "0.5.9"})
        elif path == "/v1/models":
            base = {"id": "toy", "root": "toy", "parent": None, "max_model_len": TOO_LONG}
            adapters = [
                {"id": name, "root": root, "parent": "toy", "max_model_len": None}
                for name, root in ADAPTERS.items()
            ]
            self._send(200, {"object": "list", "data": [base, *adapters]})
        else:
            self._send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/generate":
            self._send(404, {"detail": "Not Found"})
        elif len(body["input_ids"]) > TOO_LONG:
            message = f"The input ({len(body['input_ids'])} tokens) is longer than {TOO_LONG}."
            self._send(400, {"error": {"message": message}})
        else:
            self._send(200, generated(body))

    def _send(self, status: int, content: object) -> None:
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def sglang_server(port: int = 0) -> Iterator[str]:
    """Run the server; yields its address without `/v1`."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
