"""Whole studies of the families that configs/paper.yaml names and of those users add next.

Tiny random models with the structure of the real ones and chat templates written in the style of
each family: base, tuned, both with chain of thought, and the comparison.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import chat_templates
import mlflow
import pytest
import torch
import transformers
from conftest import CONFIGS, SIZE

from isogloss import tracking
from isogloss.config import StudyConfig
from isogloss.stages.study import run_study
from isogloss.types import Condition

pytestmark = pytest.mark.real

SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: dict[str, tuple[Callable[[], transformers.PreTrainedConfig], str | None]] = {
    "gemma3": (CONFIGS["gemma3"], chat_templates.CHATML),
    "llama": (CONFIGS["llama"], chat_templates.LLAMA_3),
    "qwen3": (CONFIGS["qwen3"], chat_templates.QWEN_3),
    "qwen3_moe": (CONFIGS["qwen3_moe"], chat_templates.QWEN_3_THINKING),
    "gpt_oss": (
        lambda: transformers.GptOssConfig(
            **SIZE, sliding_window=48, layer_types=SLIDING, num_local_experts=4,
            num_experts_per_tok=2,
        ),
        chat_templates.GPT_OSS,
    ),
    "deepseek_v3": (CONFIGS["deepseek_v3"], chat_templates.DEEPSEEK_31),
    "mistral": (CONFIGS["mistral"], chat_templates.MISTRAL),
    "phi3": (lambda: transformers.Phi3Config(**SIZE), chat_templates.CHATML),
    "glm4": (lambda: transformers.Glm4Config(**SIZE), chat_templates.GLM_45),
    "olmo2": (lambda: transformers.Olmo2Config(**SIZE), None),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_of_every_family_goes_from_base_to_comparison(
    family: str, tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    make_config, template = FAMILIES[family]
    torch.manual_seed(0)
    folder = tmp_path / family
    transformers.AutoModelForCausalLM.from_config(make_config()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    config = StudyConfig.model_validate(
        {
            "study": family,
            "model": str(folder),
            "dtype": "float32",
            "source": "arb_Arab+heb_Hebr",
            "languages": "amh_Ethi,mlt_Latn,eng_Latn,fra_Latn",
            "format": "letter",
            "reasoning": "both",
            "max_new_tokens": 8,
            "limit": 4,
            "finetune": {"steps": 3, "batch_size": 4, "dev_limit": 4, "rank": 2, "alpha": 4},
        }
    )
    compared = mlflow.get_run(run_study(config))
    evaluated = {
        tracking.tag(run, "condition"): run
        for run in mlflow.search_runs(
            filter_string="tags.`isogloss.kind` = 'evaluate'", output_format="list"
        )
    }
    assert set(evaluated) == set(Condition)
    predictions = {
        condition: tracking.read_predictions(run.info.run_id)
        for condition, run in evaluated.items()
    }
    for condition, table in predictions.items():
        assert len(table) == 16, condition
        chat = tracking.tag(evaluated[condition], "chat")
        assert chat == str(template is not None).lower()
    base, tuned = predictions[Condition.BASE], predictions[Condition.TUNED]
    assert base["gold_logprob"].tolist() != tuned["gold_logprob"].tolist()
    assert predictions[Condition.TUNED_COT]["text"].notna().all()
    report = mlflow.artifacts.load_text(f"{compared.info.artifact_uri}/report/report.md")
    assert "Published analysis beside ours" in report
    shutil.rmtree(folder)
