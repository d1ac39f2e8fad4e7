"""TRL's SFTTrainer and transformers' Trainer: isogloss's training steps, LoRA on the same layers.

Both get the token ids that isogloss trains on, in the same order, and start from the same random
adapter. TRL gets its prompt-completion format already tokenised, since from text it appends an
end-of-sequence token to each answer. Gradient checkpointing, which TRL enables by default, is off:
it trades time for memory, and isogloss does not use it.
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.contenders.job import Moment, main, peak_mb, read, step_times

# The recipe of isogloss (training.recipe).
LORA = LoraConfig(
    task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"
)
LEARNING_RATE = 5e-4
WARMUP = 0.1


class _Stamps(TrainerCallback):
    """The times at which steps ended, and the peak memory at the last one."""

    def __init__(self) -> None:
        self.ends: list[Moment] = []
        self.peak_mb = 0.0

    def on_step_end(self, *arguments: Any, **kwargs: Any) -> None:
        self.ends.append(Moment.now())
        self.peak_mb = peak_mb()


def _arguments(job: dict[str, Any], folder: str, size: int) -> dict[str, Any]:
    micro = int(job["setting"].split()[0]) if job["setting"] else size
    return {
        "output_dir": folder,
        "max_steps": job["steps"],
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": -(-size // micro),
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": int(WARMUP * job["steps"]),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": False,
        "bf16": job["dtype"] == "bfloat16",
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }


def try_settings(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step with each number of items per pass, and the fastest."""
    tried = {}
    for micro in job["tried"]:
        setting = f"{micro} items per pass"
        steps = {"setting": setting, "steps": 2}
        tried[setting] = train(job | steps)["seconds"]
    return {"tried": tried, "best": min(tried, key=lambda setting: tried[setting])}


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train; the result has the seconds of all steps but the first, and the loss of each step."""
    steps = read(job["steps_file"])[: job["steps"]]
    sizes = {len(step) for step in steps}
    if len(sizes) != 1:
        raise ValueError(f"steps have {sorted(sizes)} items, but a trainer needs one batch size.")
    rows = [item for step in steps for item in step]
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    torch.manual_seed(0)
    peft_model = get_peft_model(model, LORA)
    stamps = _Stamps()
    with tempfile.TemporaryDirectory() as folder:
        arguments = _arguments(job, folder, sizes.pop())
        if job["contender"] == "TRL":
            trainer: Any = _trl(peft_model, tokenizer, rows, arguments)
        else:
            trainer = _plain(peft_model, tokenizer, rows, arguments)
        trainer.add_callback(stamps)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        **step_times(stamps.ends),
        "peak_mb": stamps.peak_mb,
        "losses": losses,
        "threads": torch.get_num_threads(),
        "dtype": job["dtype"],
    }


def _trl(model: Any, tokenizer: Any, rows: list[dict[str, Any]], arguments: dict[str, Any]) -> Any:
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list(
        [
            {
                "input_ids": row["ids"],
                "completion_mask": [int(at >= row["start"]) for at in range(len(row["ids"]))],
            }
            for row in rows
        ]
    )
    config = SFTConfig(**arguments, completion_only_loss=True, max_length=None)
    return SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer)


def _plain(
    model: Any, tokenizer: Any, rows: list[dict[str, Any]], arguments: dict[str, Any]
) -> Any:
    data = Dataset.from_list(
        [
            {
                "input_ids": row["ids"],
                "attention_mask": [1] * len(row["ids"]),
                "labels": [-100] * row["start"] + row["ids"][row["start"] :],
            }
            for row in rows
        ]
    )
    return Trainer(
        model,
        args=TrainingArguments(**arguments),
        train_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )


if __name__ == "__main__":
    main(lambda job: try_settings(job) if "tried" in job else train(job))
