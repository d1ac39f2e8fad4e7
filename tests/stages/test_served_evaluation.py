"""Evaluation through a server: against this process, and what is refused before a run is open."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.entities import Run
from tiny_adapters import write_adapter
from tiny_vllm import TinyVllm, serving

from isogloss import tracking
from isogloss.config import EvaluateConfig, FinetuneConfig, StudyConfig
from isogloss.errors import ComparisonError, ConfigError, ModelError, ServerError
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode
from isogloss.registry.lookup import AdapterRef
from isogloss.stages.comparable_runs import check_comparable
from isogloss.stages.dry_run import dry_run
from isogloss.stages.evaluate import evaluate
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.stages.evaluation_plan import plan_evaluation
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.study import run_study
from isogloss.tracking.comparability import key_differences
from isogloss.tracking.resume import work_root

pytestmark = pytest.mark.usefixtures("no_figures")

LANGUAGES = ("heb_Hebr", "eng_Latn")


@pytest.fixture
def server(tiny: LanguageModel) -> Iterator[TinyVllm]:
    with serving(tiny) as server:
        yield server


@pytest.fixture
def folder(model_folder: Callable[[str], Path]) -> str:
    return str(model_folder("gemma3"))


def configured(folder: str, server: TinyVllm | None = None, **changes: object) -> EvaluateConfig:
    engine = server.engine(**changes.pop("engine", {})) if server else None
    values = {"model": folder, "languages": LANGUAGES, "limit": 3, "engine": engine}
    own = {} if server else {"dtype": "float32"}
    return EvaluateConfig.model_validate({**values, **own, **changes})


def evaluated(config: EvaluateConfig, adapter: Path | None = None) -> Run:
    reference = AdapterRef.in_folder(adapter) if adapter else None
    return evaluate(config, Session.of(config), reference)


def logprobs(run: Run) -> list[list[float]]:
    return [list(row) for row in tracking.read_predictions(run.info.run_id)["choice_logprobs"]]


def test_base_and_adapter_are_those_of_this_process(
    folder: str, server: TinyVllm, tmp_path: Path
) -> None:
    write_adapter(Path(folder), tmp_path / "adapter", target_modules=["q_proj", "v_proj"])
    for adapter in (None, tmp_path / "adapter"):
        here = evaluated(configured(folder), adapter)
        there = evaluated(configured(folder, server), adapter)
        for own, served in zip(logprobs(here), logprobs(there), strict=True):
            assert served == pytest.approx(own, abs=2e-4)
        accuracies = {
            name: value for name, value in here.data.metrics.items() if "server" not in name
        }
        assert accuracies == pytest.approx(
            {name: value for name, value in there.data.metrics.items() if "server" not in name},
            abs=1e-3,
        )
    assert server.loaded.keys() == {f"isogloss-{there.data.tags['isogloss.adapter'][:16]}"}
    tags = there.data.tags
    assert tags["isogloss.engine"] == "vllm"
    assert tags["isogloss.server_version"] == "0.32.0"
    assert tags["isogloss.served_model"] == "tiny"
    assert tags["isogloss.server_settings"] == "prompts: ids; labels: exact"
    assert "isogloss.dtype" not in tags
    assert "torch" not in tags["isogloss.libraries"]


def test_tokens_and_their_price_are_metrics(folder: str, server: TinyVllm) -> None:
    config = configured(folder, server, engine={"price_in": 2.0, "price_out": 1000.0})
    metrics = evaluated(config).data.metrics
    of_items = [prompt for prompt in server.asked if len(prompt) > 2][3:]  # after the probe
    prompt_tokens = sum(map(len, of_items))
    assert metrics["server/prompt_tokens"] == prompt_tokens
    assert metrics["server/generated_tokens"] == metrics["server/requests"] == len(of_items)
    assert metrics["server/retries"] == 0
    expected = prompt_tokens * 2e-6 + len(of_items) * 1e-3
    assert metrics["server/cost"] == pytest.approx(expected)


def test_a_fingerprint_has_what_decides_the_result_and_no_address(
    folder: str, server: TinyVllm, tiny: LanguageModel
) -> None:
    def fingerprint(of: TinyVllm, **engine: object) -> str:
        config = configured(folder, of, engine=engine)
        return plan_evaluation(config, Session.of(config), None).fingerprint

    first = fingerprint(server)
    with serving(tiny) as other:
        assert fingerprint(other, concurrency=3, timeout=5.0, price_in=1.0, key="OTHER") == first
    with serving(tiny, version="0.33.0") as newer, serving(tiny, exact=False) as by_rank:
        assert len({first, fingerprint(newer), fingerprint(by_rank)}) == 3


def test_a_finished_run_is_reused_and_not_that_of_this_process(
    folder: str, server: TinyVllm
) -> None:
    here = evaluated(configured(folder))
    there = evaluated(configured(folder, server))
    assert here.info.run_id != there.info.run_id
    asked = len(server.asked)
    again = evaluated(configured(folder, server, engine={"concurrency": 2}))
    assert again.info.run_id == there.info.run_id
    # What opening a server asks, and the first prompt, whose answer shows the same weights.
    assert len(server.asked) - asked <= 3


def with_noise(tiny: LanguageModel, scale: float) -> LanguageModel:
    """The model with other weights of its head."""
    network = deepcopy(tiny.network)
    torch.manual_seed(7)
    weight = network.get_input_embeddings().weight
    weight.data = weight.data + scale * torch.randn_like(weight)
    return replace(tiny, network=network)


def test_other_weights_under_the_same_name_are_evaluated_anew(
    folder: str, server: TinyVllm, tiny: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(folder, server, format="letter")
    first = evaluated(config)
    server.model = with_noise(tiny, 1e-5)  # as rounding
    assert evaluated(config).info.run_id == first.info.run_id
    server.model = with_noise(tiny, 1.0)
    second = evaluated(config)
    assert second.info.run_id != first.info.run_id
    assert f"run {first.info.run_id} is not reused: the server has other weights" in caplog.text
    assert logprobs(second) != logprobs(first)
    assert evaluated(config).info.run_id == second.info.run_id
    server.model = tiny  # the first weights again: their run has the result
    assert evaluated(config).info.run_id == first.info.run_id


def test_answers_of_other_weights_are_not_mixed_with_those_of_an_interrupted_evaluation(
    folder: str, server: TinyVllm, tiny: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(folder, server, format="letter")
    evaluation = plan_evaluation(config, Session.of(config), None)
    prompts = [prompt(item, evaluation.protocol, tiny.tokenizer) for item in evaluation.all_items]
    contexts = [entry.sequences[0][: entry.starts[0]] for entry in encode(tiny.tokenizer, prompts)]
    server.refused = {contexts[-1]}
    with pytest.raises(ServerError, match=r"^no answer about 1 of 6 items"):
        evaluated(config)
    server.refused, server.model = set(), with_noise(tiny, 1.0)
    mixed = logprobs(evaluated(config))
    assert "answers of an interrupted evaluation are not used" in caplog.text
    with serving(server.model) as other:
        assert mixed == logprobs(evaluated(configured(folder, other, format="letter", seed=1)))


def test_runs_of_a_server_and_of_this_process_are_not_compared_as_one_model(
    folder: str, server: TinyVllm
) -> None:
    here = evaluated(configured(folder))
    there = evaluated(configured(folder, server))
    with pytest.raises(ComparisonError, match=r"^the runs of .* cannot be compared: revision is"):
        check_comparable([here, there])
    assert [difference.name for difference in key_differences([here, there])] == [
        "revision",
        "engine",
    ]
    check_comparable([there, there])


def test_items_without_an_answer_leave_a_run_that_the_same_command_finishes(
    folder: str, server: TinyVllm, tiny: LanguageModel
) -> None:
    config = configured(folder, server, format="letter")
    evaluation = plan_evaluation(config, Session.of(config), None)
    prompts = [prompt(item, evaluation.protocol, tiny.tokenizer) for item in evaluation.all_items]
    contexts = [entry.sequences[0][: entry.starts[0]] for entry in encode(tiny.tokenizer, prompts)]
    server.refused = {contexts[1], contexts[-1]}
    with pytest.raises(ServerError, match=r"^no answer about 2 of 6 items \(status 400"):
        evaluated(config)
    server.refused = set()
    finished = evaluated(config)
    (run,) = mlflow.search_runs(
        output_format="list", search_all_experiments=True
    )  # the run that failed is resumed
    assert (run.info.run_id, run.info.status) == (finished.info.run_id, "FINISHED")
    probes = [contexts[0]] * 6  # three of each command
    asked = [tokens for tokens in server.asked if tokens in contexts]
    assert sorted(asked) == sorted([*contexts, *probes])
    here = evaluated(configured(folder, format="letter"))
    for own, served in zip(logprobs(here), logprobs(finished), strict=True):
        assert served == pytest.approx(own, abs=2e-4)
    assert [path.name for path in work_root().iterdir()] == [".locks"]


def test_a_served_model_is_not_trained_without_a_trainer(folder: str, server: TinyVllm) -> None:
    config = FinetuneConfig.model_validate({"model": folder, "engine": server.engine()})
    with pytest.raises(ConfigError, match=r"which evaluates and does not train; expected engine"):
        finetune(config, Session.of(config))
    assert mlflow.search_runs(output_format="list", search_all_experiments=True) == []


def test_parameters_that_the_server_decides_are_refused(folder: str, server: TinyVllm) -> None:
    with pytest.raises(ConfigError, match=r"dtype is 'bfloat16', but the server .* expected auto"):
        run_evaluate(configured(folder, server, dtype="bfloat16"))


def test_an_adapter_of_another_base_is_refused(
    folder: str, server: TinyVllm, tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    other = model_folder("llama")
    write_adapter(other, tmp_path / "adapter", target_modules=["q_proj"])
    with pytest.raises(ModelError, match=r"was trained on .*llama.* set allow_base"):
        evaluated(configured(folder, server), tmp_path / "adapter")
    assert mlflow.search_runs(output_format="list", search_all_experiments=True) == []


def test_an_adapter_that_the_server_was_started_with_is_found_by_its_files(
    folder: str, server: TinyVllm, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(Path(folder), adapter, target_modules=["q_proj"])
    server.listed = {"mine": str(adapter)}
    evaluated(configured(folder, server), adapter)
    assert list(server.loaded) == ["mine"]


def test_one_name_on_the_server_is_of_one_adapter(folder: str, server: TinyVllm) -> None:
    config = configured(folder, server, engine={"adapter": "mine"}, adapter=("a", "b"))
    with pytest.raises(ConfigError, match="the server's name of one adapter, but `adapter` has 2"):
        run_evaluate(config)


def test_prompts_longer_than_the_servers_context_are_refused(folder: str, server: TinyVllm) -> None:
    session = Session.of(configured(folder, server))
    assert session.served is not None
    assert session.served.window(None) == 4095
    assert session.served.window(100) == 100


def test_a_server_that_answers_with_the_base_in_place_of_an_adapter_is_refused(
    folder: str, tiny: LanguageModel, tmp_path: Path
) -> None:
    write_adapter(Path(folder), tmp_path / "adapter", target_modules=["q_proj"])
    with (
        serving(tiny, applies_adapters=False) as server,
        pytest.raises(ModelError, match="answers with the adapter as without it"),
    ):
        evaluated(configured(folder, server), tmp_path / "adapter")
    assert mlflow.search_runs(output_format="list", search_all_experiments=True) == []


def test_a_model_may_be_the_address_of_its_server(folder: str, tiny: LanguageModel) -> None:
    with serving(tiny, name=folder) as server:
        config = EvaluateConfig.model_validate(
            {"model": f"{server.url}/v1#{folder}", "languages": LANGUAGES, "limit": 3}
        )
        served = evaluated(config)
    assert served.data.tags["isogloss.model"] == folder
    here = evaluated(configured(folder))
    for own, there in zip(logprobs(here), logprobs(served), strict=True):
        assert there == pytest.approx(own, abs=2e-4)


def test_two_servers_for_one_model_are_refused(folder: str, server: TinyVllm) -> None:
    config = configured(folder, server, model=f"{server.url}/v1#tiny")
    with pytest.raises(ConfigError, match="names a server, and engine says what computes too"):
        run_evaluate(config)


def test_a_study_of_a_served_model_needs_a_trainer(folder: str, server: TinyVllm) -> None:
    study = StudyConfig.model_validate(
        {"study": "served", "models": [{"model": folder, "engine": server.engine()}], "limit": 3,
         "languages": ("heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn")}
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"is on an inference server, which evaluates and does"):
        run_study(study)
    assert mlflow.search_runs(output_format="list", search_all_experiments=True) == []


def test_a_dry_run_says_what_is_known_without_the_server(
    folder: str, tiny: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tiny) as server:
        engine = server.engine()
        study = StudyConfig.model_validate(
            {"study": "served", "models": [{"model": folder, "engine": engine}], "limit": 3,
             "languages": LANGUAGES}
        )  # fmt: skip
        known = dry_run(study).cells[0]
    away = dry_run(study).cells[0]
    assert (known.items, known.done, known.memory) == (6, "no", None)
    assert (away.items, away.done, away.memory) == (6, "unknown", None)
    assert known.tokens > 0
