"""Fixtures: a clean environment, a separate store for each test, tiny random models on disk."""

import functools
import gc
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import torch
import transformers  # by name: its classes are imported when they are used
from mlflow.store.db import utils as mlflow_databases
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.tasks import Item, items, open_task
from isogloss.types import Split

pytest_plugins = ["tiers", "pytester"]

torch.set_num_threads(1)  # tests run beside one another
gc.disable()  # until all tests are imported
# MLflow compiles its sixty migrations to know the newest, for each store: most of opening one.
mlflow_databases._get_latest_schema_revision = functools.cache(
    mlflow_databases._get_latest_schema_revision
)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: the time in a gzip header differs between processes."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """Exempt imported objects, which are never freed, from garbage collection."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Also exempt the objects that pytest creates at its end, in every process."""
    gc.freeze()


SIZE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,
}


def probe(language: str, split: Split, limit: int | None) -> list[Item]:
    """The first items of the probe in a language."""
    return items(open_task("probe", None), language, split, limit)


CONFIGS = {
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SIZE,
        sliding_window=48,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "llama": lambda: transformers.LlamaConfig(**SIZE),
    "mistral": lambda: transformers.MistralConfig(**SIZE, sliding_window=48),
    "qwen3": lambda: transformers.Qwen3Config(**SIZE),
    # Mixtures of experts; the first layer of the first two is dense, and DeepSeek has a shared one.
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **SIZE, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2, mlp_only_layers=[0]
    ),
    "deepseek_v3": lambda: transformers.DeepseekV3Config(
        **{**SIZE, "num_key_value_heads": 4},
        moe_intermediate_size=16,
        n_routed_experts=8,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
    "mixtral": lambda: transformers.MixtralConfig(
        **SIZE, num_local_experts=4, num_experts_per_tok=2
    ),
}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: creating its tables takes seconds, copying it no time.

    Artifacts of all its copies lie in one folder beside it.
    """
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    gc.collect()
    gc.freeze()  # what MLflow imports when it is first used
    return path


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_store: Path,
    caplog: pytest.LogCaptureFixture,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """No user settings, no network, an MLflow store in the test's own folder, progress logged."""
    caplog.set_level(logging.INFO, "isogloss")
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # by a fixture of a module; not to be restored
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "HF_", "ISOGLOSS_")) and name != "ISOGLOSS_TEST_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOGLOSS_UNFINISHED", str(tmp_path / "unfinished"))
    # Tests use the cache of the machine, for its dequantised model, but each has its own facts.
    facts = tmp_path_factory.mktemp("facts")
    monkeypatch.setattr("isogloss.models.kept_facts.cache_dir", lambda: facts)
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # left there by set_experiment


@contextmanager
def kept_store(empty_store: Path, folder: Path) -> Iterator[str]:
    """Context in which MLflow's store is a new one in a folder, for several tests; its URI."""
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)  # of another store
        yield uri
    mlflow.set_tracking_uri(before)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures: drawing them is most of the time of a small comparison."""
    monkeypatch.setattr("isogloss.report.page.figures", lambda _: {})


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the probe, with a beginning-of-sequence token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = [
        f"{item.passage} {item.question}"
        for code in ("arb_Arab", "eng_Latn")
        for item in probe(code, "train", 40)
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE["vocab_size"],
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
    )


@pytest.fixture(scope="session")
def model_folder(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that gives the folder of a tiny random model of that architecture."""
    root = tmp_path_factory.mktemp("models")

    def folder(architecture: str) -> Path:
        path = root / architecture
        if not path.is_dir():
            torch.manual_seed(0)
            network = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
            network.save_pretrained(path)
            tokenizer.save_pretrained(path)
        return path

    return folder


@pytest.fixture
def tiny(model_folder: Callable[[str], Path]) -> LanguageModel:
    """A tiny random Gemma 3 in memory."""
    return load(locate(str(model_folder("gemma3"))), "float32")
