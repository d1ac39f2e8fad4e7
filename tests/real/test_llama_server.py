"""llama.cpp's own server with the embedded model and an adapter, against this process, by `evaluate`.

The server has the weights in float32, and adapters as GGUF files.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isogloss import tracking
from isogloss.config import EvaluateConfig
from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.registry.lookup import AdapterRef
from isogloss.stages.evaluate import evaluate
from isogloss.stages.session import Session
from isogloss.types import EngineKind
from real.processes import free_port, running
from scripts.gguf_adapter import write_adapter

pytestmark = pytest.mark.real
LANGUAGES = ("arb_Arab", "eng_Latn")
# nats, root mean square of letters' log-probabilities: other kernels in float32, measured .004
LARGEST_RMS = 0.02


@pytest.fixture(scope="module")
def server(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's server with the embedded model and the adapter `tuned.gguf`."""
    folder, port = tmp_path_factory.mktemp("llama_server"), free_port()
    write_adapter(adapter, folder / "tuned.gguf")
    command = [sys.executable, "-m", "scripts.llama_server", "embedded", "--float32"]
    command += ["--adapter", str(folder / "tuned.gguf"), "--threads", "1", "--port", str(port)]
    with running(command, port, folder / "log.txt"):
        yield f"http://127.0.0.1:{port}/v1"


def predictions(config: EvaluateConfig, adapter: Path | None) -> pd.DataFrame:
    found = AdapterRef.in_folder(adapter) if adapter else None
    run = evaluate(config, Session.of(config), found)
    return tracking.read_predictions(run.info.run_id)


def test_letters_of_base_and_adapter_are_those_of_this_process(server: str, adapter: Path):
    here = EvaluateConfig(languages=LANGUAGES, limit=4, format="letter", dtype="float32")
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    for folder, name in ((None, None), (adapter, "tuned.gguf")):
        engine = Engine(
            kind=EngineKind.LLAMA_CPP, base_url=server, adapter=name, concurrency=2, timeout=300
        )
        there = EvaluateConfig(languages=LANGUAGES, limit=4, format="letter", engine=engine)
        own, served = predictions(here, folder), predictions(there, folder)
        assert list(served["item_id"]) == list(own["item_id"])
        own_IC, served_IC = (np.stack(rows["choice_logprobs"]) for rows in (own, served))
        rms = float(np.sqrt(np.mean((served_IC - own_IC) ** 2)))
        ordered_IC = np.sort(own_IC, axis=1)
        clear_I = ordered_IC[:, -1] - ordered_IC[:, -2] > 4 * rms
        same_I = own["prediction"].to_numpy() == served["prediction"].to_numpy()
        print(f"{name}: rms {rms:.4f} nats, {same_I.sum()} of {len(same_I)} predictions equal")
        assert rms < LARGEST_RMS
        assert clear_I.mean() > 0.7
        assert same_I[clear_I].all()
        scores.append((own_IC, served_IC))
    (base_IC, _), (tuned_IC, _) = scores
    assert np.sqrt(np.mean((tuned_IC - base_IC) ** 2)) > 10 * LARGEST_RMS  # the adapter decides


def test_an_adapter_that_the_server_has_not_is_refused_with_those_that_it_has(
    server: str, adapter: Path
):
    for name, says in ((None, r"expected the server's own name of it in engine\.adapter"),
                       ("other.gguf", r"has no adapter 'other\.gguf'; expected '.*tuned\.gguf'")):  # fmt: skip
        engine = Engine(kind=EngineKind.LLAMA_CPP, base_url=server, adapter=name)
        config = EvaluateConfig(languages=LANGUAGES, limit=1, format="letter", engine=engine)
        with pytest.raises(ModelError, match=says):
            predictions(config, adapter)
