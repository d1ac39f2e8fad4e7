"""Prepares the input of all contenders: items as files, tokenised training steps, prompts, counts.

It runs once per benchmark run and writes to an ignored folder, so that a contender's process does
only its own work.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders.job import main
from benchmarks.flops import Work, separate_work
from isogloss.inference.work import scoring_work
from isogloss.models.adapters import save_adapter
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, answer_words, prompt, reasoning_prompt
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item, items, open_task
from isogloss.training.batches import plan_batches
from isogloss.training.recipe import Recipe
from isogloss.types import Format, Reasoning, Split

SOURCE = "arb_Arab"
ENGLISH = "eng_Latn"


class _Group(NamedTuple):
    """The questions of a passage; `items` is what the order of training looks at."""

    members: list[int]
    items: int


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write everything into the folder `job["work"]`; return the counts of work by case."""
    data, work, sizes = Path(job["data"]), Path(job["work"]), job["sizes"]
    model = load(locate("embedded"), "float32")
    counts: dict[str, dict[str, Work]] = {}
    for format in (Format.LETTER, Format.CLOZE):
        chosen = _belebele(data, ENGLISH, work / format, sizes[format])
        counts[format] = _scoring_work(model, chosen, Protocol(format=format))
        _belebele(data, ENGLISH, work / f"{format}_again", sizes[f"{format}_again"])
    for task, folder in (("probe", None), ("sib200", str(data / "sib200"))):
        counts[task] = _training(model, task, folder, work / f"{task}.json", sizes)
    counts["generation"] = _generation(model, data, work, sizes)
    for code in job["languages"]:
        _belebele(data, code, work / "languages", sizes["line_items"])
    _belebele(data, ENGLISH, work / "items", max(sizes["lines"]["items"]))
    for passages in sizes["lines"]["passages"]:
        _long(data, work / "passages" / str(passages), passages, sizes["line_long_items"])
    _adapters(model, work / "adapters", max(sizes["lines"]["adapters"]))
    return {
        "model": str(model.location.folder),
        "config": model.network.config.to_dict(),
        "work": {case: {k: list(v) for k, v in works.items()} for case, works in counts.items()},
    }


def _belebele(data: Path, code: str, folder: Path, count: int) -> list[Item]:
    """The first items of a language in isogloss's order, written as a Belebele file."""
    task = open_task("belebele", str(data / "belebele"))
    chosen = items(task, code, Split.ALL, count)
    rows = {f"{row['link']}#{row['question_number']}": row for row in _rows(data, code)}
    _write_rows(folder / f"{code}.jsonl", [rows[item.item_id] for item in chosen])
    return chosen


def _rows(data: Path, code: str) -> Iterator[dict[str, Any]]:
    with (data / "belebele" / f"{code}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _long(data: Path, folder: Path, passages: int, count: int) -> None:
    """Items with long passages: each is the concatenation of `passages` passages."""
    distinct = list({row["link"]: row for row in _rows(data, ENGLISH)}.values())
    rows = []
    for at in range(count):
        text = "\n".join(row["flores_passage"] for row in distinct[at : at + passages])
        rows.append({**distinct[at], "flores_passage": text})
    _write_rows(folder / f"{ENGLISH}.jsonl", rows)


def _scoring_work(
    model: LanguageModel, chosen: Sequence[Item], protocol: Protocol
) -> dict[str, Work]:
    """Counts of work for scoring the items.

    `distinct`: common prefixes of a passage's prompts counted once, logits and the output of the
    last layer only where a choice needs them. `separate`: one sequence per choice. `lm-eval`: one
    sequence per distinct context, with the head at every position.
    """
    encoded = encode(model.tokenizer, [prompt(item, protocol, model.tokenizer) for item in chosen])
    lm_eval = sum(
        len(context) for entry in encoded for context in {each[:-1] for each in entry.sequences}
    )
    return {
        "distinct": scoring_work(chosen, encoded),
        "separate": separate_work(encoded),
        "lm-eval": Work(lm_eval, lm_eval),
    }


def _training(
    model: LanguageModel, task: str, folder: str | None, path: Path, sizes: dict[str, Any]
) -> dict[str, Work]:
    """Write the steps in isogloss's order: token ids and start of the answer of each item.

    Counts are for all steps but the first, which is not timed.
    """
    opened = open_task(task, folder)
    chosen = items(opened, SOURCE, Split.TRAIN, None)
    protocol = Protocol(format=opened.format, normalisation=opened.normalisation)
    prompts = [prompt(item, protocol) for item in chosen]
    gold = [
        Prompt(entry.context, (entry.continuations[item.answer],))
        for entry, item in zip(prompts, chosen, strict=True)
    ]
    encoded = encode(model.tokenizer, gold)
    passages: dict[str, list[int]] = {}
    for index, item in enumerate(chosen):
        passages.setdefault(item.passage_id, []).append(index)
    groups = [_Group(members, len(members)) for members in passages.values()]
    order = plan_batches(groups, Recipe(steps=sizes["steps"], batch_size=sizes["batch_size"]))
    batches = [[[encoded[index] for index in group.members] for group in step] for step in order]
    written = [
        [{"ids": entry.sequences[0], "start": entry.starts[0]} for group in step for entry in group]
        for step in batches
    ]
    path.write_text(json.dumps(written), "utf-8")
    timed = [group for step in batches[1:] for group in step]
    return _training_work(timed)


def _training_work(groups: Sequence[Sequence[EncodedPrompt]]) -> dict[str, Work]:
    """Counts of work for training steps.

    `distinct`: common prefixes once, the head at answer tokens. `separate`: all tokens of prompts
    and answers, the head at answer tokens. `everywhere`: all tokens, the head at each of them.
    """
    distinct = answers = tokens = 0
    for group in groups:
        tree = TokenTree()
        for entry in group:
            (sequence,), (start,) = entry
            tree.insert(sequence[:-1])
            answers += len(sequence) - start
            tokens += len(sequence)
        distinct += len(tree)
    return {
        "distinct": Work(distinct, answers),
        "separate": Work(tokens, answers),
        "everywhere": Work(tokens, tokens),
    }


def _generation(
    model: LanguageModel, data: Path, work: Path, sizes: dict[str, Any]
) -> dict[str, Work]:
    """Prompts that ask for reasoning, each with the words that introduce an answer."""
    task = open_task("belebele", str(data / "belebele"))
    protocol = Protocol(format=Format.LETTER, reasoning=Reasoning.COT)
    chosen = items(task, ENGLISH, Split.ALL, sizes["generation"])
    contexts = [reasoning_prompt(item, protocol) for item in chosen]
    words = [answer_words(item.language, protocol) for item in chosen]
    rows = [{"context": c, "words": w} for c, w in zip(contexts, words, strict=True)]
    (work / "generation.json").write_text(json.dumps(rows), "utf-8")
    return {"prompts": Work(sum(len(ids) for ids in model.tokenizer(contexts).input_ids), 0)}


def _adapters(model: LanguageModel, folder: Path, count: int) -> None:
    """Adapters of rank 16 with random weights, which cost the same as trained ones."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM", r=16, target_modules="all-linear", init_lora_weights=False
    )
    for number in range(count):
        peft_model = get_peft_model(model.module, config)
        save_adapter(peft_model, folder / str(number), model.location)
        peft_model.unload()


if __name__ == "__main__":
    main(prepare)
