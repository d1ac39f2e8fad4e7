"""Weights that give NaN or infinity: no score, no text and no adapter come out of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from conftest import probe
from tiny_training import RECIPE, train_tiny

from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError, TrainingError
from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.stages.evaluate_adapters import run_evaluate

PROTOCOLS = {
    "letter": Protocol("letter"),
    "cloze": Protocol("cloze"),
    "unconditional": Protocol("cloze", normalisation="unconditional"),
    "generate": Protocol("generate", max_new_tokens=4),
}


def damage(model: LanguageModel, value: float) -> None:
    """Set the final norm's weight."""
    with torch.no_grad():
        model.network.model.norm.weight[3] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_scores_that_are_not_finite_stop_the_run_by_item_and_language(
    name: str, value: float, tiny: LanguageModel
) -> None:
    items = probe("heb_Hebr", "test", 2)
    assert len(predict(tiny, items, PROTOCOLS[name], "probe")) == 2
    damage(tiny, value)
    with pytest.raises(ModelError, match=f"item '{items[0].item_id}' in heb_Hebr has a"):
        predict(tiny, items, PROTOCOLS[name], "probe")


def test_a_masked_token_is_no_score_either(tiny: LanguageModel) -> None:
    own_forward = tiny.network.forward

    def masked(*args: object, **kwargs: object) -> object:
        output = own_forward(*args, **kwargs)
        output.logits = torch.full_like(output.logits, -torch.inf).index_fill(
            -1, torch.tensor([7]), 0.0
        )
        return output

    tiny.network.forward = masked
    tiny.splits = None
    with pytest.raises(ModelError, match="log-likelihood of -inf"):
        predict(tiny, probe("heb_Hebr", "test", 1), PROTOCOLS["letter"], "probe")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_such_weights_is_refused_before_a_run_is_open(
    value: float, tiny: LanguageModel, tmp_path: Path
) -> None:
    damage(tiny, value)
    tiny.network.save_pretrained(tmp_path / "damaged")
    tiny.tokenizer.save_pretrained(tmp_path / "damaged")
    with pytest.raises(ModelError, match="logits that are NaN or infinite in float32"):
        run_evaluate(
            EvaluateConfig(
                model=str(tmp_path / "damaged"), languages=("eng_Latn",), limit=2, dtype="float32"
            )
        )
    assert not mlflow.search_runs(search_all_experiments=True, output_format="list")


def test_training_stops_at_a_gradient_that_is_not_finite(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.inf))
    with pytest.raises(TrainingError, match="the gradient of step 1 has norm inf"):
        train_tiny(tiny, tmp_path)


def test_training_whose_dev_scores_are_not_finite_fails_by_step_item_and_language(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load(locate(str(model_folder("gemma3"))), "float32")
    damage(model, float("nan"))
    with pytest.raises(
        TrainingError, match=r"after step 0, item .* in arb_Arab has a log-likelihood"
    ):
        train_tiny(model, tmp_path, replace(RECIPE, steps=1))
