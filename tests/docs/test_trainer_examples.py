"""The examples of configurations for external trainers have only options that the trainers have.

ms-swift's and axolotl's own definitions are read from their packages, unpacked without what they
need, in the folder that $ISOGLOSS_TRAINERS names:
`pip install --no-deps --target FOLDER axolotl==0.19.0 ms-swift==4.6.0`.
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

TRAINERS = os.environ.get("ISOGLOSS_TRAINERS")  # read here: tests have no variables of isogloss
EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"
SCRIPTS = sorted(EXAMPLES.glob("megatron_*.sh"))
RECIPE = {
    "model": {"path": "Qwen/Qwen3-8B"},
    "files": {"train_tokens": "/data/train_tokens.jsonl"},
    "hyperparameters": {
        "steps": 40, "warmup_steps": 4, "learning_rate": 5e-4, "seed": 1, "rank": 16, "alpha": 32,
        "dropout": 0.0, "batch_size": 16,
    },
    "peft": {"target_modules": "all-linear", "target_parameters": None},
}  # fmt: skip


def trainers() -> Path:
    if TRAINERS is None:
        pytest.skip("ISOGLOSS_TRAINERS names no folder with axolotl and ms-swift")
    return Path(TRAINERS)


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


@pytest.mark.parametrize("path", [*SCRIPTS, EXAMPLES / "with_axolotl.py"], ids=lambda p: p.name)
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


VALIDATE = """
import json, sys, warnings
warnings.simplefilter("ignore")
from axolotl.utils.schemas.config import AxolotlInputConfig
config = json.load(sys.stdin)
unknown = sorted(config.keys() - AxolotlInputConfig.model_fields.keys())
assert not unknown, f"axolotl has no {unknown}"
checked = AxolotlInputConfig.model_validate(config)
print(json.dumps({"datasets": checked.datasets[0].model_dump(mode="json", exclude_unset=True),
                  "rank": checked.lora_r, "packing": checked.sample_packing}))
"""


def validated(config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What axolotl's own schema says of a configuration."""
    return subprocess.run(
        [sys.executable, "-c", VALIDATE],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(trainers())},
        check=False,
    )


@pytest.mark.parametrize("modules", ["all-linear", ["self_attn.q_proj", "self_attn.v_proj"]])
def test_axolotl_accepts_the_configuration_as_it_is_filled(modules: object, tmp_path: Path) -> None:
    trainers()
    example = yaml.safe_load((EXAMPLES / "axolotl.yaml").read_text("utf-8"))
    recipe = {**RECIPE, "peft": {"target_modules": modules, "target_parameters": None}}
    config = script("with_axolotl.py").filled(example, recipe, tmp_path)
    result = validated(config)
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "datasets": {"path": "/data/train_tokens.jsonl", "ds_type": "json"},
        "rank": 16,
        "packing": False,
    }
    spoilt = validated({**config, "lora_rank": 16})
    assert "axolotl has no ['lora_rank']" in spoilt.stderr
