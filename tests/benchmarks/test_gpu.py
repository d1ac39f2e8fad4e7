"""The benchmark of a GPU, rehearsed on the CPU with tiny models."""

import json
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

from benchmarks import gpu
from benchmarks.flops import body_flops, separate_work
from benchmarks.gpu_parts import scoring
from benchmarks.gpu_parts.attention import (
    GROUPS,
    HEADS,
    PREPARED,
    Row,
    chains,
    key_blocks,
    subtree_ends,
)
from benchmarks.gpu_parts.generation import own_texts
from benchmarks.gpu_parts.items import made, read
from benchmarks.gpu_parts.measure import Deadline, OutOfTimeError
from benchmarks.gpu_parts.models import (
    SIZES,
    build,
    cast_weights,
    counted,
    language_model,
    train_tokenizer,
)
from benchmarks.gpu_parts.scoring import harness_loop, plain_loop
from benchmarks.gpu_parts.table import markdown
from benchmarks.gpu_parts.work import encoded_prompts
from isogloss.inference.generation import generate
from isogloss.inference.scoring import score
from isogloss.inference.work import scoring_work
from isogloss.models.language_model import LanguageModel
from isogloss.models.prefix_tree import TokenTree
from isogloss.types import Format

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def test_a_rehearsal_has_every_part_and_the_engine_is_exact(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    gpu.run(gpu.options(["--models", "tiny", "--parts", ",".join(gpu.NAMES), "--out", str(out)]))
    results = json.loads(out.read_text("utf-8"))
    parts = results["parts"]
    page = out.with_suffix(".md").read_text("utf-8")
    assert page == markdown(results)
    assert page.count("| tiny | ") >= 17
    assert "## Failed" not in page
    assert set(parts) == {"products", *(f"{part} tiny" for part in gpu.PARTS)}
    assert not [measured["error"] for measured in parts.values() if "error" in measured]
    correct = parts["correctness tiny"]
    assert all("TREE" in paths for paths in correct["paths"].values())
    for kind in ("letter", "cloze"):
        assert correct[kind]["float32"]["largest"] < 2e-5
        assert correct[kind]["float32"]["other_choices"] == 0
        assert correct[kind]["bfloat16 from exact"]["rms"] < 0.1
        assert correct[kind]["standard_deviation_over_items"] > 0.05  # scores depend on items
        scored = parts["scoring tiny"][kind]
        assert scored["plain"]["largest_difference"] < 0.2
        assert scored["harness"]["items_per_second"] > 0
    assert correct["training"]["float32"]["relative"] < 1e-5
    training = parts["training tiny"]
    assert training["loss_differences"] == pytest.approx([0, 0, 0], abs=0.03)
    assert training["isogloss"]["tokens_per_second"] > 0
    kernels = parts["attention tiny"]["kernels"]
    assert kernels["sdpa_padded"]["largest_difference"] < 0.02
    assert "error" not in kernels["sdpa_per_tree"]


def test_what_was_measured_before_an_error_is_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> dict[str, Any]:
        raise OutOfTimeError("the time of this part is over.")

    monkeypatch.setattr(scoring, "_peer", fail)
    out = tmp_path / "gpu.json"
    gpu.run(gpu.options(["--models", "tiny", "--parts", "products,scoring", "--out", str(out)]))
    measured = json.loads(out.read_text("utf-8"))["parts"]["scoring tiny"]
    assert measured["error"] == "OutOfTimeError: the time of this part is over."
    assert measured["letter"]["items_per_second"] > 0
    page = out.with_suffix(".md").read_text("utf-8")
    assert page.count("| tiny | letter | ") == 1
    assert "- scoring tiny: OutOfTimeError" in page


@pytest.fixture(scope="module")
def tiny_float32() -> LanguageModel:
    texts = [f"P: {item.passage}\nQ: {item.question}" for item in made(4)]
    tokenizer = train_tokenizer(texts, SIZES["tiny"]["vocab_size"])
    assert len(tokenizer) == SIZES["tiny"]["vocab_size"]
    rounded = build("tiny", CPU, tokenizer)
    cast_weights(rounded.network, torch.float32)
    return language_model("tiny", rounded.network, CPU, tokenizer)


def test_generate_writes_the_texts_of_the_engine(tiny_float32: LanguageModel) -> None:
    contexts = [f"P: {item.passage}" for item in made(2)]
    ours = generate(tiny_float32, contexts, 5, [lambda _: False] * len(contexts))
    theirs = own_texts(tiny_float32, contexts, 5, 2)
    assert [entry.text for entry in ours] == theirs
    assert all(theirs)


@pytest.mark.parametrize("kind", [Format.LETTER, Format.CLOZE])
def test_the_peers_score_what_the_engine_scores(tiny_float32: LanguageModel, kind: Format) -> None:
    items = made(2)
    encoded = encoded_prompts(tiny_float32, items, kind)
    ours = [list(entry.loglikelihoods) for entry in score(tiny_float32, encoded, items, True)]
    for loop in (plain_loop, harness_loop):
        theirs = loop(tiny_float32, encoded, 3, Deadline(60))
        assert np.array(theirs) == pytest.approx(np.array(ours), abs=1e-4)


def test_separate_work_counts_every_choice_whole(tiny_float32: LanguageModel) -> None:
    items = made(3)
    encoded = encoded_prompts(tiny_float32, items, Format.CLOZE)
    shared, separate = scoring_work(items, encoded), separate_work(encoded)
    assert separate.tokens == sum(len(row) - 1 for entry in encoded for row in entry.sequences)
    assert separate.positions == sum(
        len(row) - start for entry in encoded for row, start in zip(*entry, strict=True)
    )
    assert shared.tokens < separate.tokens / 2


@pytest.mark.parametrize(("name", "billions"), [("4b", 4.02), ("8b", 8.19), ("30b-a3b", 30.53)])
def test_sizes_are_those_of_the_published_models(name: str, billions: float) -> None:
    kind = Qwen3MoeConfig if "num_experts" in SIZES[name] else Qwen3Config
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(kind(**SIZES[name]))
    assert sum(weight.numel() for weight in network.parameters()) / 1e9 == pytest.approx(
        billions, abs=0.01
    )
    if name == "8b":
        layers = network.model.layers.named_modules()
        sizes = [layer.weight.numel() for _, layer in layers if type(layer) is torch.nn.Linear]
        assert body_flops(counted(name)) == 2 * sum(sizes)


def test_a_mixture_counts_the_experts_that_a_token_uses() -> None:
    size = counted("tiny-moe")
    one_expert = body_flops({**size, "intermediate_size": size["moe_intermediate_size"]})
    assert size["num_experts_per_tok"] == 2
    assert body_flops(size) - one_expert == 3 * 2 * (2 * 64 * 32 + 64 * 32)


def test_made_items_have_the_lengths_of_belebele() -> None:
    items = made()
    assert len(items) == 900
    passages = {item.passage_id: item.passage for item in items}
    assert Counter(Counter(item.passage_id for item in items).values()) == {2: 412, 1: 76}
    assert statistics.mean(map(len, passages.values())) == pytest.approx(476, rel=0.03)
    assert statistics.mean(len(item.question) for item in items) == pytest.approx(77, rel=0.03)
    options = [len(option) for item in items for option in item.options]
    assert statistics.mean(options) == pytest.approx(25.4, rel=0.05)
    assert made(2) == items[: len(made(2))]


def test_items_of_a_file_are_read(tmp_path: Path) -> None:
    row = {
        "link": "a", "question_number": 2, "flores_passage": "P", "question": "Q", "dialect": "x",
        "mc_answer1": "a", "mc_answer2": "b", "mc_answer3": "c", "mc_answer4": "d",
        "correct_answer_num": "3",
    }  # fmt: skip
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row), "utf-8")
    (item,) = read(path)
    assert (item.item_id, item.passage_id, item.options[item.answer]) == ("a#2", "a", "c")


def test_subtrees_and_chains_describe_who_attends_to_whom() -> None:
    tree = TokenTree()
    for sequence in ((1, 2, 3, 4), (1, 2, 5, 6), (1, 2, 5, 7, 8)):
        tree.insert(sequence)
    at = np.arange(len(tree))
    ends = np.array(subtree_ends(tree))
    expected = tree.ancestors()
    assert ((at[None, :] <= at[:, None]) & (at[:, None] < ends[None, :]) == expected).all()
    seen = np.zeros_like(expected)
    for start, end, above in chains(tree):
        for node in range(start, end):
            seen[node, [*above, *range(start, node + 1)]] = True
    assert (seen == expected).all()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_kernels_for_blocks_of_keys_and_for_trees_agree() -> None:
    tree = TokenTree()
    for sequence in (range(90), (*range(70), *range(200, 230)), (*range(20), 300)):
        tree.insert(tuple(sequence))
    row = Row([tree, tree, tree], 512, CPU)
    torch.manual_seed(0)
    tokens = len(row.ends)
    inputs = [torch.randn(1, heads, tokens, 16) for heads in (HEADS, GROUPS, GROUPS)]
    expected, *others = (
        PREPARED[name](row)(*inputs)[:, :, : tokens - row.filler]
        for name in ("sdpa_per_tree", "sdpa_padded", "flex")
    )
    for output in others:
        assert torch.allclose(output, expected, atol=1e-5)
    number, index = key_blocks(row)
    assert [sorted(blocks[:n]) for n, blocks in zip(number, index, strict=True)] == [
        [0], [0, 1], [1, 2],
    ]  # fmt: skip


def test_a_row_takes_whole_trees_and_is_filled_to_a_block() -> None:
    tree = TokenTree()
    tree.insert(range(100))
    row = Row([tree, tree, tree], 256, CPU)
    assert (row.sizes, len(row.ends), row.filler) == ([100, 100], 256, 56)


def test_parts_come_in_order_of_importance() -> None:
    assert gpu.planned(["scoring", "attention"], ["4b"]) == [("scoring", "4b"), ("attention", "4b")]
    both = gpu.planned(gpu.DEFAULT, ["4b", "8b", "30b-a3b"])
    assert both[:3] == [("correctness", "4b"), ("scoring", "4b"), ("scoring", "8b")]
    assert len(both) == len(set(both))
    assert ("correctness", "30b-a3b-short") in both


@pytest.mark.parametrize("option", ["--parts=speed", "--models=7b"])
def test_unknown_names_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.options([option])
    assert option.partition("=")[2] in capsys.readouterr().err


def test_an_error_in_a_part_is_a_result_and_is_on_the_page() -> None:
    result = gpu.guarded(CPU, 1.0, lambda: {"quotient": 1 / 0})
    results = {"machine": {"device": "CPU", "versions": {}}, "items": {"number": 0, "source": ""}}
    page = markdown({**results, "started": "", "commit": "", "parts": {"scoring 8b": result}})
    assert "- scoring 8b: ZeroDivisionError: division by zero" in page
    assert result["error"] == "ZeroDivisionError: division by zero"
    assert result["at"][-1].startswith("test_gpu.py:")


@pytest.mark.real
def test_it_needs_no_mlflow_and_no_data_sets(tmp_path: Path) -> None:
    absent = ("mlflow", "datasets", "evaluate", "optuna", "trl", "lm_eval", "gguf", "sqlalchemy")
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({absent}))
sys.argv = ["gpu", "--models", "tiny-moe", "--out", {str(tmp_path / "gpu.json")!r}]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": "src", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]
    assert not [measured["error"] for measured in parts.values() if "error" in measured]
    assert parts["correctness tiny-moe"]["cloze"]["float32"]["largest"] < 2e-5
    assert "## Scoring" in done.stdout
