"""Whether a server has the weights that it had: its answer to one prompt, now and then.

A server says no more of its weights than a name. The tag `server_answer` of a run, and a file
beside its intermediate results, keep the log-probabilities of the likeliest tokens after the first
prompt.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from isogloss.files import write_whole

logger = logging.getLogger(__name__)

FILE = "server_answer.json"
KEPT = 20  # most likely tokens
# nats, root mean square over the tokens: a restarted server differs by 0, quantised weights and
# another build of llama.cpp by up to .26, an adapter of forty steps by 4 (docs/LOG.md).
TOLERANCE = 0.5

Answer = Mapping[str, float]


def likeliest(logprobs: Mapping[int | str, float]) -> dict[str, float]:
    """The likeliest tokens of an answer, by id or text, with their log-probabilities (nats)."""
    best = sorted(logprobs, key=lambda token: logprobs[token], reverse=True)[:KEPT]
    return {str(token): round(logprobs[token], 4) for token in best}


def difference(then: Answer, now: Answer) -> float:
    """The root mean square of differences between two answers, in nats.

    A token that one of them lacks is there as the least likely of that one.
    """
    squares = []
    for token in then.keys() | now.keys():
        values = [answer.get(token, min(answer.values())) for answer in (then, now)]
        squares.append((values[0] - values[1]) ** 2)
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else 0.0


def other_weights(then: Answer, now: Answer) -> str | None:
    """As a clause, why two answers are not of the same weights; None if they may be."""
    if not then or not now or (nats := difference(then, now)) <= TOLERANCE:
        return None
    return (
        f"the server has other weights under the same name, whose log-probabilities of the first "
        f"prompt differ by {nats:.2g} nats"
    )


def stored(text: str) -> Answer:
    """An answer that was stored as JSON; an empty one if the text is damaged."""
    try:
        return {str(token): float(value) for token, value in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def keep_answers_of(folder: Path, now: Answer) -> None:
    """Remember whose answers are in a folder of intermediate results; delete those of others."""
    path = folder / FILE
    then = stored(path.read_text("utf-8", "replace")) if path.is_file() else {}
    if problem := other_weights(then, now):
        logger.warning(f"answers of an interrupted evaluation are not used: {problem}; asking anew")
        for pattern in ("*.jsonl", "*.parquet"):
            for left in folder.glob(pattern):
                left.unlink()
        then = {}
    if now and not then:
        write_whole(path, json.dumps(now).encode())
