"""Whole studies of the families that configs/paper.yaml names and of those users add next.

Tiny random models with the structure of the real ones and chat templates written in the style of
each family: base, tuned, both with chain of thought, and the comparison. What is expected is
scripts/families.json, from which the table in docs/reference/architectures.md is written.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import chat_templates
import mlflow
import numpy as np
import pytest
import torch
import transformers
from conftest import CONFIGS, SIZE
from mlflow.entities import Run
from safetensors.torch import load_file

from isogloss import tracking
from isogloss.compat.interfaces import Tokenizer
from isogloss.config import StudyConfig
from isogloss.models.locate import locate
from isogloss.models.tokenizers import load_tokenizer
from isogloss.prompts.chat import chat_format
from isogloss.prompts.reasoning_blocks import open_block
from isogloss.registry.lookup import adapter_folder
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


STORED = json.loads((Path(__file__).parents[2] / "scripts" / "families.json").read_text("utf-8"))
YES, NONE, DENSE = "✓", "none", "dense"
CONDITIONS = [str(condition) for condition in Condition]


def study(family: str, folder: Path, *, experts: bool) -> StudyConfig:
    modules = "all-linear+experts" if experts else "all-linear"
    return StudyConfig.model_validate(
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
            "finetune": {
                "steps": 3, "batch_size": 4, "dev_limit": 4, "rank": 2, "alpha": 4,
                "target_modules": modules,
            },
        }
    )  # fmt: skip


def thinking_off(tokenizer: Tokenizer) -> str:
    """How direct answers begin outside any block of reasoning."""
    off, on = chat_format(tokenizer, thinking=False), chat_format(tokenizer, thinking=True)
    assert open_block(off.opened) is None
    if off.opened == on.opened:
        return f"{YES} (has none)"
    return f"{YES} (ended)" if off.suffix else f"{YES} (switch)"


def steps_of(compared: Run, folder: Path) -> dict[str, str]:
    """What a finished study did, by the columns of the documentation's table."""
    by_kind: dict[str, list[Run]] = {}
    for run in mlflow.search_runs(output_format="list", search_all_experiments=True):
        by_kind.setdefault(str(tracking.tag(run, "kind")), []).append(run)
    evaluated = {str(tracking.tag(run, "condition")): run for run in by_kind["evaluate"]}
    predictions = {
        condition: tracking.read_predictions(run.info.run_id)
        for condition, run in evaluated.items()
    }
    steps = dict.fromkeys(CONDITIONS, "not run")
    for condition, table in predictions.items():
        whole = len(table) == 16 and np.isfinite(table["gold_logprob"]).all()
        reasoned = not condition.endswith("cot") or table["text"].notna().all()
        steps[condition] = YES if whole and reasoned else "incomplete"
    base, tuned = predictions["base"], predictions["tuned"]
    assert base["gold_logprob"].tolist() != tuned["gold_logprob"].tolist()
    report = mlflow.artifacts.load_text(f"{compared.info.artifact_uri}/report/report.md")
    steps["compare"] = YES if "Published analysis beside ours" in report else "incomplete"
    (chat,) = {tracking.tag(run, "chat") for run in evaluated.values()}
    steps["chat template"] = YES if chat == "true" else NONE
    tokenizer = load_tokenizer(locate(str(folder)))
    steps["thinking off"] = thinking_off(tokenizer) if chat == "true" else NONE
    (finetuned,) = by_kind["finetune"]
    with adapter_folder(finetuned.info.run_id) as adapter:
        names = load_file(adapter / "adapter_model.safetensors")
    steps["LoRA on experts"] = YES if any(".experts." in name for name in names) else DENSE
    return steps


@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_of_every_family_does_what_the_table_of_the_documentation_says(
    family: str, tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    make_config, template = FAMILIES[family]
    torch.manual_seed(0)
    folder = tmp_path / family
    network = transformers.AutoModelForCausalLM.from_config(make_config())
    experts = any("Experts" in type(module).__name__ for module in network.modules())
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    compared = mlflow.get_run(run_study(study(family, folder, experts=experts)))
    assert steps_of(compared, folder) == STORED[family]
    shutil.rmtree(folder)


def test_the_table_has_every_family_and_no_other() -> None:
    assert list(STORED) == list(FAMILIES)
