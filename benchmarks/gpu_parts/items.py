"""Items: those of a file, or made to the lengths of Belebele's.

Lengths are those of Belebele's 900 questions in English (Bandarkar et al. 2023, arXiv:2308.16884),
counted in characters: 488 passages of 476 on average (standard deviation 160, from 144 to 1,352),
412 of them with two questions and 76 with one; questions of 77 (22), options of 25 (17). Words are
random syllables, drawn by Zipf's law.
"""

import json
import random
from pathlib import Path
from typing import Any

from isogloss.tasks import Item

PASSAGES, PAIRS = 488, 412
SYLLABLES = [f"{onset}{vowel}" for onset in "bdfgklmnprstvz" for vowel in "aeiou"]
WORDS = 6000


def made(passages: int = PASSAGES, seed: int = 0) -> list[Item]:
    """Items of that many passages, with the lengths of Belebele's; the same for the same seed."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(WORDS)]
    weights = [1 / (rank + 10) for rank in range(WORDS)]

    def text(mean: float, deviation: float, least: int, most: int) -> str:
        length = int(min(max(draw.gauss(mean, deviation), least), most))
        written = " ".join(draw.choices(words, weights, k=length // 4 + 2))
        return written[:length].strip()

    items = []
    for passage in range(passages):
        shared = text(476, 160, 144, 1352)
        # Every sixth passage or so has one question: 76 of 488.
        for question in range(
            1 if passage * (PASSAGES - PAIRS) % PASSAGES < PASSAGES - PAIRS else 2
        ):
            options = tuple(f"{text(23, 17, 2, 118)} {number}" for number in range(4))
            items.append(
                Item(
                    item_id=f"{passage}#{question}",
                    passage_id=str(passage),
                    language="eng_Latn",
                    passage=shared,
                    question=f"{text(76, 22, 20, 180)}?",
                    options=options,
                    answer=draw.randrange(4),
                )
            )
    return items


def read(path: Path) -> list[Item]:
    """Items of a .jsonl or .parquet file with Belebele's columns, or with those of an item."""
    if path.suffix == ".parquet":
        import pandas as pd

        rows: list[Any] = pd.read_parquet(path).to_dict("records")
    else:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [_item(number, row) for number, row in enumerate(rows)]


def _item(number: int, row: dict[str, Any]) -> Item:
    if "flores_passage" not in row:
        options = tuple(map(str, row["options"]))
        texts = {name: str(row[name]) for name in ("passage_id", "passage", "question")}
        return Item(
            item_id=str(row.get("item_id", number)),
            language=str(row.get("language", "eng_Latn")),
            options=options,
            answer=int(row["answer"]),
            **texts,
        )
    return Item(
        item_id=f"{row['link']}#{row['question_number']}",
        passage_id=str(row["link"]),
        language=str(row.get("dialect", "eng_Latn")),
        passage=row["flores_passage"],
        question=row["question"],
        options=tuple(row[f"mc_answer{option}"] for option in range(1, 5)),
        answer=int(row["correct_answer_num"]) - 1,
    )


def spread(items: list[Item], passages: int) -> list[Item]:
    """The items of that many passages, evenly spaced over all."""
    ids = list(dict.fromkeys(item.passage_id for item in items))
    chosen = {ids[len(ids) * at // passages] for at in range(passages)} if ids else set()
    return [item for item in items if item.passage_id in chosen]
