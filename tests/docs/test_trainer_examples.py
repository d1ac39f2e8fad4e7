"""The examples of configurations for external trainers have only options that the trainers have.

The trainers' own definitions are read from their packages, unpacked without what they need: by
`make install-trainers` in .trainers, or in the folder that $ISOGLOSS_TRAINERS names.
"""

import ast
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from isogloss.config.engine import Engine
from isogloss.config.train_command import split_words

ROOT = Path(__file__).parents[2]
# Read here: tests have no variables of isogloss.
TRAINERS = Path(os.environ.get("ISOGLOSS_TRAINERS", ROOT / ".trainers"))
EXAMPLES = ROOT / "examples" / "trainers"
SCRIPTS = sorted(EXAMPLES.glob("megatron_*.sh"))
RECIPE = {
    "model": {"path": "Qwen/Qwen3-8B"},
    "files": {"train_tokens": "/data/train_tokens.jsonl", "train": "/data/train.jsonl"},
    "hyperparameters": {
        "steps": 40, "warmup_steps": 4, "learning_rate": 5e-4, "seed": 1, "rank": 16, "alpha": 32,
        "dropout": 0.0, "batch_size": 16,
    },
    "peft": {"target_modules": "all-linear", "target_parameters": None},
}  # fmt: skip


def trainers() -> Path:
    if not (TRAINERS / "axolotl").is_dir():
        pytest.skip("the trainers' packages are not unpacked: make install-trainers")
    return TRAINERS


def script(name: str) -> Any:
    """A script of the examples as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def engine_of(path: Path) -> Engine:
    """The engine that the comment or docstring of an example shows."""
    lines = [
        line.removeprefix("#").removeprefix(" ") for line in path.read_text("utf-8").splitlines()
    ]
    start = next(at for at, line in enumerate(lines) if line.strip() == "engine:")
    end = next(at for at in range(start, len(lines)) if not lines[at].strip())
    shown = "\n".join(line for line in lines[start:end])
    return Engine.model_validate(yaml.safe_load(shown)["engine"])


@pytest.mark.parametrize(
    "path", [*SCRIPTS, *sorted(EXAMPLES.glob("with_*.py"))], ids=lambda p: p.name
)
def test_the_engines_that_examples_show_name_the_example(path: Path) -> None:
    words = split_words(engine_of(path).train or "")
    assert f"examples/trainers/{path.name}" in words


def options(path: Path) -> dict[str, list[str]]:
    """The options of the command `megatron sft` in a script, with their values."""
    text = path.read_text("utf-8").partition("exec megatron sft")[2].replace("\\\n", " ")
    given: dict[str, list[str]] = {}
    for word in shlex.split(text):
        if word.startswith("--"):
            assert word not in given, f"{word} twice"
            given[word] = []
            last = word
        else:
            given[last].append(word)
    return {name.removeprefix("--"): values for name, values in given.items()}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_a_script_takes_as_many_values_as_its_engine_gives(path: Path) -> None:
    words = split_words(engine_of(path).train or "")
    given = words[words.index(f"examples/trainers/{path.name}") + 1 :]
    assert given == [
        "{model}", "{train}", "{output}", "{steps}", "{batch_size}", "{learning_rate}", "{rank}",
        "{alpha}", "{seed}",
    ]  # fmt: skip
    subprocess.run(["bash", "-n", str(path)], check=True)


# Layers, and attention heads, of the models; a pipeline stage holds whole layers.
LAYERS = {"megatron_qwen3_235b.sh": (94, 16), "megatron_deepseek_v3.sh": (61, 64)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_layers_and_gpus_divide_as_megatron_wants(path: Path) -> None:
    layers, gpus = LAYERS[path.name]
    given = {
        name: int(values[0]) for name, values in options(path).items() if "parallel_size" in name
    }
    stages = given["pipeline_model_parallel_size"]
    last = options(path).get("decoder_last_pipeline_num_layers")
    if last:
        assert (layers - int(last[0])) % (stages - 1) == 0
    else:
        assert layers % stages == 0
    in_stage = gpus // stages
    assert in_stage % given["tensor_model_parallel_size"] == 0
    experts = given["expert_model_parallel_size"] * given["expert_tensor_parallel_size"]
    assert in_stage % experts == 0
    nodes = next(word for word in split_words(engine_of(path).train or "") if "--nodes" in word)
    assert int(nodes.partition("=")[2]) * 8 == gpus


def fields(folder: Path) -> dict[str, ast.expr]:
    """The annotated fields of all dataclasses in the Python files of a folder."""
    found: dict[str, ast.expr] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found |= {
                    entry.target.id: entry.annotation
                    for entry in node.body
                    if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
                }
    return found


def accepted(annotation: ast.expr) -> set[object] | None:
    """The values of a `Literal`, None for other types."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
            elements = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return {element.value for element in elements if isinstance(element, ast.Constant)}
    return None


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_megatron_of_ms_swift_has_every_option_and_value(path: Path) -> None:
    swift = trainers() / "swift"
    known = fields(swift / "megatron" / "arguments") | fields(swift / "arguments" / "base_args")
    for name, values in options(path).items():
        assert name in known, f"ms-swift has no option --{name}"
        kind = ast.unparse(known[name])
        literals = accepted(known[name])
        for value in values:
            if value.startswith("$"):
                continue
            if literals is not None and "Union" not in kind:
                assert value in {str(each) for each in literals}, f"--{name} {value}"
            elif "bool" in kind:
                assert value in ("true", "false"), f"--{name} {value}"
            elif "int" in kind and "List" not in kind:
                int(value)
            elif "float" in kind:
                float(value)


# Options that a trainer does not have are added in a second attempt, which must fail.
VALIDATE = """
import json, sys, warnings
warnings.simplefilter("ignore")
from axolotl.utils.schemas.config import AxolotlInputConfig
def checked(config):
    unknown = sorted(config.keys() - AxolotlInputConfig.model_fields.keys())
    assert not unknown, f"axolotl has no {unknown}"
    return AxolotlInputConfig.model_validate(config)
results = []
for config in json.load(sys.stdin):
    found = checked(config)
    (data,) = found.datasets
    results.append({"path": data.path, "ds_type": data.ds_type, "type": data.type,
                    "rank": found.lora_r, "packing": found.sample_packing})
try:
    checked({**config, "lora_rank": 16})
    refusal = None
except AssertionError as error:
    refusal = str(error)
print(json.dumps([results, refusal]))
"""


def answer_of(program: str, given: object) -> Any:
    """What a program prints, in a process with the trainers' packages, given JSON."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(trainers()), "DISABLE_VERSION_CHECK": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.real
def test_axolotl_accepts_the_configuration_as_it_is_filled(tmp_path: Path) -> None:
    trainers()
    example = yaml.safe_load((EXAMPLES / "axolotl.yaml").read_text("utf-8"))
    configs = [
        script("with_axolotl.py").filled(
            example,
            {**RECIPE, "peft": {"target_modules": modules, "target_parameters": None}},
            tmp_path,
        )
        for modules in ("all-linear", ["self_attn.q_proj", "self_attn.v_proj"])
    ]
    results, refusal = answer_of(VALIDATE, configs)
    expected = {
        "path": "/data/train_tokens.jsonl", "ds_type": "json", "type": None, "rank": 16,
        "packing": False,
    }  # fmt: skip
    assert results == [expected, expected]
    assert refusal == "axolotl has no ['lora_rank']"


# The package's data module imports torchaudio, which its reader of dataset_info.json does not need.
PARSE = """
import json, sys, types, warnings
warnings.simplefilter("ignore")
from llamafactory.hparams.parser import get_train_args
import llamafactory
data = types.ModuleType("llamafactory.data")
data.__path__ = [llamafactory.__path__[0] + "/data"]
sys.modules["llamafactory.data"] = data
from llamafactory.data.parser import get_dataset_list
config = json.load(sys.stdin)
model, read, training, tuning, _ = get_train_args(dict(config))
(texts,) = get_dataset_list(read.dataset, read.dataset_dir)
try:
    get_train_args({**config, "lora_r": 16})
    refusal = None
except ValueError as error:
    refusal = str(error)
print(json.dumps([{
    "model": model.model_name_or_path, "tokenized": read.tokenized_path, "packing": read.packing,
    "steps": training.max_steps, "warmup": training.warmup_steps, "bf16": training.bf16,
    "items": training.per_device_train_batch_size * training.gradient_accumulation_steps,
    "schedule": training.lr_scheduler_type, "norm": training.max_grad_norm,
    "lora": [tuning.lora_rank, tuning.lora_alpha, tuning.lora_target],
    "texts": [texts.dataset_name, texts.formatting, texts.prompt, texts.response],
}, refusal]))
"""


@pytest.mark.real
def test_llamafactory_parses_the_configuration_and_gets_the_tokens(tmp_path: Path) -> None:
    trainers()
    from datasets import load_from_disk

    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, -100, 7], "attention_mask": [1, 1, 1]},
        {"input_ids": [8, 9], "labels": [-100, 9], "attention_mask": [1, 1]},
    ]
    tokens = tmp_path / "train_tokens.jsonl"
    tokens.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    output = tmp_path / "output"
    output.mkdir()
    recipe = {
        **RECIPE,
        "files": {"train_tokens": str(tokens), "train": "/data/train.jsonl"},
        "peft": {"target_modules": ["q_proj", "v_proj"], "target_parameters": None},
    }
    example = script("with_llamafactory.py")
    example.write_data(recipe, output)
    written = load_from_disk(str(output / "tokenized"))
    assert list(written) == ["train"]
    assert written["train"].to_list() == rows
    config = example.filled(
        yaml.safe_load((EXAMPLES / "llamafactory.yaml").read_text("utf-8")), recipe, output
    )
    result, refusal = answer_of(PARSE, {**config, "bf16": False, "use_cpu": True})
    assert result == {
        "model": "Qwen/Qwen3-8B", "tokenized": str(output / "tokenized"), "packing": False,
        "steps": 40, "warmup": 4, "bf16": False, "items": 16, "schedule": "linear", "norm": 1.0,
        "lora": [16, 32, ["q_proj", "v_proj"]],
        "texts": ["/data/train.jsonl", "alpaca", "prompt", "completion"],
    }  # fmt: skip
    assert "lora_r" in refusal
    every = {**recipe, "peft": {"target_modules": "all-linear", "target_parameters": None}}
    assert example.filled({}, every, output)["lora_target"] == "all"
