"""A service on loopback that speaks the wire format of Tinker's SDK about a tiny model, for tests.

Requests are validated by the SDK's own types, which accept no unknown field, and answers are built
from them: JSON by tinker.types, the others by tinker.proto. It computes by transformers and peft,
one sequence at a time, with torch's AdamW. The service itself is out of reach of tests.
"""

import copy
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import Any

import numpy as np
import peft
import torch
import transformers
from tinker import types
from tinker.proto import tinker_public_pb2 as proto

from isogloss.config.engine import Engine
from isogloss.models.lora import lora_config

KEY = "tml-secret-of-tests"
CONTEXT = 4096
IMPLICIT_STOP = 1  # the end-of-sequence token of the tiny tokenizer


@dataclass
class Trained:
    """A LoRA under training."""

    network: Any
    optimizer: torch.optim.Optimizer
    rank: int
    modules: str


@dataclass
class TinkerService:
    """What the service does. `alpha` is that of every LoRA; `refuses` gives some requests an error.

    `seen` counts requests by their path, `steps` the optimizer steps by model, and `data` holds
    what was trained on, by step.
    """

    folder: Path
    name: str = "tiny/base"
    key: str = KEY
    alpha: int = 32
    applies: bool = True  # weights when sampling
    exports: tuple[str, ...] = ("adapter_config.json", "adapter_model.safetensors")
    refuses: Callable[[str, int], int | str | None] = lambda path, count: None
    waits: Callable[[str, int], None] = lambda path, count: None
    seen: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    models: dict[str, Trained] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)  # by path
    samplers: dict[str, str | None] = field(default_factory=dict)  # path by id
    answers: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    data: list[proto.ForwardBackwardRequest] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    def engine(self, **values: object) -> Engine:
        return Engine.model_validate(
            {"kind": "tinker", "base_url": self.url, "name": self.name, **values}
        )

    def lora(self, rank: int, seed: int, modules: str) -> Trained:
        network = transformers.AutoModelForCausalLM.from_pretrained(self.folder)
        config = lora_config(network, modules, rank, self.alpha, 0.0)
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(network, config)
        adapted.train()
        weights = [weight for weight in adapted.parameters() if weight.requires_grad]
        return Trained(adapted, torch.optim.AdamW(weights, lr=0.0), rank, modules)

    def later(self, content: object) -> dict[str, object]:
        """The promise of an answer, which is there at once."""
        request = f"request-{len(self.answers)}"
        if isinstance(content, proto.SampleResponse | proto.ForwardBackwardOutput):
            self.answers[request] = ("application/x-protobuf", content.SerializeToString())
        else:
            self.answers[request] = ("application/json", as_json(content))
        return {"request_id": request}

    def post(self, path: str, body: bytes) -> tuple[str, bytes] | object:
        if path == "forward_backward":
            return self.forward_backward(body)
        given = json.loads(body)
        self.bodies.append((path, given))
        if path == "retrieve_future":
            return self.answers[types.FutureRetrieveRequest.model_validate(given).request_id]
        if path.startswith("sessions/"):
            return {}
        return getattr(self, path.replace("/", "_"))(given)

    def client_config(self, body: dict[str, Any]) -> object:
        types.ClientConfigRequest.model_validate(body)
        return types.ClientConfigResponse()

    def client_dynamic_config(self, body: dict[str, Any]) -> object:
        return types.ClientDynamicConfigResponse()

    def create_session(self, body: dict[str, Any]) -> object:
        types.CreateSessionRequest.model_validate(body)
        return types.CreateSessionResponse(session_id=f"session-{self.seen['create_session']}")

    def session_heartbeat(self, body: dict[str, Any]) -> object:
        return types.SessionHeartbeatResponse()

    def telemetry(self, body: dict[str, Any]) -> object:
        return {"status": "accepted"}

    def create_model(self, body: dict[str, Any]) -> object:
        request = types.CreateModelRequest.model_validate(body)
        lora = request.lora_config
        assert request.base_model == self.name
        assert lora is not None
        assert not lora.train_unembed
        assert lora.train_attn
        modules = "all-linear" if lora.train_mlp else "attention"
        model_id = f"{request.session_id}:train:{request.model_seq_id}"
        self.models[model_id] = self.lora(lora.rank, lora.seed or 0, modules)
        return self.later(types.CreateModelResponse(model_id=model_id))

    def get_info(self, body: dict[str, Any]) -> object:
        model_id = types.GetInfoRequest.model_validate(body).model_id
        return types.GetInfoResponse(
            model_data=types.ModelData(model_name=self.name),
            model_id=model_id,
            is_lora=True,
            lora_rank=self.models[model_id].rank,
            model_name=self.name,
        )

    def forward_backward(self, body: bytes) -> object:
        request = proto.ForwardBackwardRequest.FromString(body)
        assert request.loss_fn == "cross_entropy"
        self.data.append(request)
        network = self.models[request.model_id].network
        arrays = []
        for datum in request.data:
            (chunk,) = datum.model_input
            tokens = np.frombuffer(chunk.encoded_text.tokens, np.int32).astype(np.int64)
            targets = np.frombuffer(datum.loss_fn_inputs["target_tokens"].dense, np.int64)
            weights = np.frombuffer(datum.loss_fn_inputs["weights"].dense, np.float32)
            logits = network(input_ids=torch.tensor(tokens)[None]).logits[0]
            logprobs = logits.float().log_softmax(-1)[range(len(targets)), torch.tensor(targets)]
            (-logprobs * torch.tensor(weights)).sum().backward()
            arrays.append(logprobs.detach().numpy())
        sizes = np.cumsum([0, *(array.nbytes for array in arrays)])
        record = proto.ArrayRecord(num_datums=len(arrays))
        record.fields["logprobs"].CopyFrom(
            proto.BatchedTensor(
                data=b"".join(array.tobytes() for array in arrays),
                offsets=np.asarray(sizes, np.int64).tobytes(),
                dtype=proto.DTYPE_FLOAT32,
            )
        )
        return self.later(
            proto.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord", loss_fn_outputs=[record])
        )

    def optim_step(self, body: dict[str, Any]) -> object:
        request = types.OptimStepRequest.model_validate(body)
        params = request.optim_params
        assert isinstance(params, types.AdamParams)
        trained = self.models[request.model_id]
        weights = trained.optimizer.param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(weights, params.grad_clip_norm)
        trained.optimizer.param_groups[0].update(
            lr=params.learning_rate, betas=(params.beta1, params.beta2), eps=params.eps,
            weight_decay=params.weight_decay,
        )  # fmt: skip
        trained.optimizer.step()
        trained.optimizer.zero_grad()
        return self.later(types.OptimStepResponse())

    def save_weights(self, body: dict[str, Any]) -> object:
        request = types.SaveWeightsRequest.model_validate(body)
        path = self.keep(request.model_id, "weights", request.path)
        return self.later(types.SaveWeightsResponse(path=path))

    def save_weights_for_sampler(self, body: dict[str, Any]) -> object:
        request = types.SaveWeightsForSamplerRequest.model_validate(body)
        path = self.keep(request.model_id, "sampler_weights", request.path)
        return self.later({"path": path})

    def save_weights_external(self, body: dict[str, Any]) -> object:
        request = types.SaveWeightsExternalRequest.model_validate(body)
        path = self.keep(request.model_id, "external_weights", request.path)
        return self.later({"path": path, "size_bytes": 1})

    def keep(self, model_id: str, kind: str, name: str | None) -> str:
        trained = self.models[model_id]
        weights = trained.optimizer.param_groups[0]["params"]
        path = f"tinker://{model_id}/{kind}/{name}"
        assert path not in self.saved, "a name twice"
        self.saved[path] = (
            trained.rank,
            trained.modules,
            [weight.detach().clone() for weight in weights],
            copy.deepcopy(trained.optimizer.state_dict()),
        )
        if kind == "external_weights":
            with TemporaryDirectory() as folder:
                trained.network.save_pretrained(folder, save_embedding_layers=False)
                for name in self.exports:
                    self.files[f"{path}/{name}"] = self.exported(Path(folder) / name)
        return path

    def exported(self, file: Path) -> bytes:
        """A file of an export, in whose configuration Tinker names no base."""
        if file.suffix != ".json":
            return file.read_bytes()
        settings = json.loads(file.read_text("utf-8"))
        return json.dumps(settings | {"base_model_name_or_path": None}).encode()

    def load_weights(self, body: dict[str, Any]) -> object:
        request = types.LoadWeightsRequest.model_validate(body)
        assert request.optimizer
        model_id = f"{request.session_id}:train:{request.model_seq_id}"
        self.models[model_id] = self.restored(request.path)
        return self.later(types.LoadWeightsResponse(path=request.path))

    def restored(self, path: str) -> Trained:
        rank, modules, weights, state = self.saved[path]
        trained = self.lora(rank, 0, modules)
        with torch.no_grad():
            for own, kept in zip(trained.optimizer.param_groups[0]["params"], weights, strict=True):
                own.copy_(kept)
        trained.optimizer.load_state_dict(copy.deepcopy(state))
        return trained

    def create_sampling_session(self, body: dict[str, Any]) -> object:
        request = types.CreateSamplingSessionRequest.model_validate(body)
        if request.model_path is None:
            assert request.base_model == self.name
        sampler = f"{request.session_id}:sample:{request.sampling_session_seq_id}"
        self.samplers[sampler] = request.model_path
        return types.CreateSamplingSessionResponse(sampling_session_id=sampler)

    def network(self, sampler: str | None) -> Any:
        path = self.samplers[sampler or ""]
        key = path if path and self.applies else ""
        if key not in self.networks:
            if key:
                self.networks[key] = self.restored(key).network.eval()
            else:
                base = transformers.AutoModelForCausalLM.from_pretrained(self.folder)
                self.networks[key] = base.eval()
        return self.networks[key]

    networks: dict[str, Any] = field(default_factory=dict)

    @torch.inference_mode()
    def asample(self, body: dict[str, Any]) -> object:
        request = types.SampleRequest.model_validate(body)
        network = self.network(request.sampling_session_id)
        prompt = request.prompt.to_ints()
        logprobs = network(input_ids=torch.tensor([prompt])).logits[0].float().log_softmax(-1)
        answer = proto.SampleResponse()
        if request.prompt_logprobs:
            first = len(prompt) - (request.prompt_logprobs_last_n or len(prompt) - 1)
            values = np.full(len(prompt), np.nan, np.float32)
            for at in range(max(first, 1), len(prompt)):
                values[at] = logprobs[at - 1, prompt[at]]
            answer.prompt_logprobs = values.tobytes()
            if k := request.topk_prompt_logprobs:
                ids = np.zeros((len(prompt), k), np.int32)
                tops = np.full((len(prompt), k), -99999.0, np.float32)
                for at in range(max(first, 1), len(prompt)):
                    top = logprobs[at - 1].topk(k)
                    ids[at], tops[at] = top.indices.numpy(), top.values.numpy()
                answer.topk_prompt_logprobs.CopyFrom(
                    proto.TopkLogprobs(
                        token_ids=ids.tobytes(), logprobs=tops.tobytes(), k=k, length=len(prompt)
                    )
                )
        if wanted := request.target_prompt_logprobs:
            self.target(wanted, logprobs, len(prompt), answer)
        sequence = self.sampled(network, prompt, logprobs, request.sampling_params)
        answer.sequences.append(sequence)
        return {**self.later(answer), "sample_sequence_ids": ["sequence-0"]}

    def target(
        self, wanted: Any, logprobs: torch.Tensor, length: int, answer: proto.SampleResponse
    ) -> None:
        rows, crow = wanted.shape[0], wanted.sparse_crow_indices
        assert rows == length - 1
        assert len(crow) == rows + 1
        values = [
            float(logprobs[row, wanted.data[cell]])
            for row in range(rows)
            for cell in range(crow[row], crow[row + 1])
        ]
        tensor = proto.Tensor(dtype=proto.DTYPE_FLOAT32, shape=wanted.shape)
        tensor.sparse_csr.values = np.asarray(values, np.float32).tobytes()
        tensor.sparse_csr.crow_indices = np.asarray(crow, np.int64).tobytes()
        columns = np.asarray(wanted.sparse_col_indices, np.int64)
        tensor.sparse_csr.col_indices = columns.tobytes()
        answer.target_prompt_logprobs.CopyFrom(tensor)

    def sampled(
        self, network: Any, prompt: list[int], logprobs: torch.Tensor, params: Any
    ) -> proto.SampledSequence:
        assert params.temperature == 0
        tokens, last = list[int](), logprobs[-1]
        while len(tokens) < params.max_tokens:
            tokens.append(int(last.argmax()))
            if tokens[-1] == IMPLICIT_STOP:
                break
            if len(tokens) < params.max_tokens:
                last = network(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1]
        stopped = tokens[-1] == IMPLICIT_STOP
        return proto.SampledSequence(
            tokens=np.asarray(tokens, np.int32).tobytes(),
            stop_reason=proto.STOP_REASON_STOP if stopped else proto.STOP_REASON_LENGTH,
        )

    def get(self, path: str) -> tuple[str, bytes] | object:
        if path == "get_server_capabilities":
            model = types.SupportedModel(model_name=self.name, max_context_length=CONTEXT)
            other = types.SupportedModel(model_name="other/model", max_context_length=CONTEXT)
            return types.GetServerCapabilitiesResponse(supported_models=[model, other])
        if path.startswith("samplers/"):
            sampler = path.removeprefix("samplers/")
            return types.GetSamplerResponse(
                sampler_id=sampler, base_model=self.name, model_path=self.samplers[sampler]
            )
        if path.endswith("/external_weights_urls"):
            run, _, checkpoint = path.removeprefix("training_runs/").partition("/checkpoints/")
            checkpoint = checkpoint.removesuffix("/external_weights_urls")
            own = f"tinker://{run}/{checkpoint}/"
            urls = {
                file.removeprefix(own): f"{self.url}/files?{number}"
                for number, file in enumerate(self.files)
                if file.startswith(own)
            }
            return {"urls": urls, "expires": "2100-01-01T00:00:00Z"}
        raise KeyError(path)


def as_json(content: object) -> bytes:
    if isinstance(content, dict):
        return json.dumps(content).encode()
    text: str = content.model_dump_json()
    return text.encode()


@contextmanager
def tinker_serving(folder: Path, **values: Any) -> Iterator[TinkerService]:
    """The service within a context."""
    service = TinkerService(folder, **values)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/files?"):
                number = int(self.path.partition("?")[2])
                self.answer(200, ("application/octet-stream", list(service.files.values())[number]))
            else:
                self.handle_one(lambda path: service.get(path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.handle_one(lambda path: service.post(path, body))

        def handle_one(self, work: Callable[[str], object]) -> None:
            path = self.path.removeprefix("/api/v1/")
            if self.headers.get("X-API-Key") != service.key:
                said = f"the key {self.headers.get('X-API-Key')} is not known"
                self.answer(401, {"error": said})
                return
            with service.lock:
                service.seen[path] += 1
                count = service.seen[path]
                error = service.refuses(path, count)
                if isinstance(error, int):
                    self.answer(error, {"error": "refused by the test"})
                    return
                if isinstance(error, str):
                    failed = {"error": error, "category": "user"}
                    self.answer(200, service.later(failed) | {"sample_sequence_ids": ["none"]})
                    return
                content = work(path)
            service.waits(path, count)
            self.answer(200, content)

        def answer(self, status: int, content: Any) -> None:
            kind, data = (
                content if isinstance(content, tuple) else ("application/json", as_json(content))
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            import sys

            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trained_rows(request: proto.ForwardBackwardRequest) -> list[tuple[list[int], list[int]]]:
    """The tokens of each item of a step, and those with a loss."""
    rows = []
    for datum in request.data:
        tokens = np.frombuffer(datum.model_input[0].encoded_text.tokens, np.int32).tolist()
        targets = np.frombuffer(datum.loss_fn_inputs["target_tokens"].dense, np.int64).tolist()
        weights = np.frombuffer(datum.loss_fn_inputs["weights"].dense, np.float32)
        rows.append(
            (
                [*tokens, targets[-1]],
                [target for target, weight in zip(targets, weights, strict=True) if weight],
            )
        )
    total = sum(
        float(np.frombuffer(datum.loss_fn_inputs["weights"].dense, np.float32).sum())
        for datum in request.data
    )
    assert math.isclose(total, 1, rel_tol=1e-5)
    return rows
