"""Two ways to compute a passage once for its questions: a prefix tree, or a key-value cache.

The first is what isogloss does (models/forward.py). The second runs the common prefix of the
questions, keeps its keys and values, and runs the rest of each question as one row of a batch.
Prints the CPU time and the largest difference of a letter's log-likelihood.
"""

import time
from collections import defaultdict
from itertools import takewhile
from pathlib import Path

import click
import torch

from isogloss.compat.transformers import empty_cache
from isogloss.inference.scoring import score
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import logits
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode
from isogloss.tasks import items, open_task
from isogloss.types import Format, Split


@torch.inference_mode()
def with_cache(
    model: LanguageModel, sequences: list[tuple[int, ...]], letters: list[list[int]]
) -> list[list[float]]:
    """Log-likelihoods of the letters after each prompt of one passage."""
    # The last token of each prompt belongs to the second pass.
    columns = zip(*(sequence[:-1] for sequence in sequences), strict=False)
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    cache = empty_cache(model.network)
    with model.autocast():
        stem = torch.tensor([sequences[0][:common]])
        model.network.get_decoder()(input_ids=stem, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(sequences))
        width = max(map(len, sequences)) - common
        tokens = torch.zeros(len(sequences), width, dtype=torch.long)
        mask = torch.ones(len(sequences), common + width, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            rest = sequence[common:]
            tokens[row, : len(rest)] = torch.tensor(rest)
            mask[row, common + len(rest) :] = 0
        hidden = model.network.get_decoder()(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=torch.arange(common, common + width).expand_as(tokens),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
    last = [len(sequence) - common - 1 for sequence in sequences]
    logprob_RV = logits(model, hidden[range(len(sequences)), last], float32_head=True).log_softmax(
        -1
    )
    return [logprob_RV[row, ids].tolist() for row, ids in enumerate(letters)]


@click.command()
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--n-items", type=click.IntRange(1), default=60, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def main(data_dir: Path, n_items: int, dtype: str, threads: int, rounds: int) -> None:
    """Score English Belebele items of DATA_DIR by letter in both ways, in turns."""
    torch.set_num_threads(threads)
    model = load(locate("embedded"), dtype)
    chosen = items(open_task("belebele", str(data_dir)), "eng_Latn", Split.ALL, n_items)
    encoded = encode(model.tokenizer, [prompt(item, Protocol(Format.LETTER)) for item in chosen])
    passages: dict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(chosen):
        passages[item.passage_id].append(at)
    seconds: dict[str, list[float]] = {"tree": [], "cache": []}
    for _ in range(rounds):
        start = time.process_time()
        trees = score(model, encoded, chosen, share=True, float32_head=True)
        seconds["tree"].append(time.process_time() - start)
        start = time.process_time()
        cached: dict[int, list[float]] = {}
        for members in passages.values():
            loglikelihoods = with_cache(
                model,
                [encoded[at].sequences[0][:-1] for at in members],
                [[sequence[-1] for sequence in encoded[at].sequences] for at in members],
            )
            cached.update(zip(members, loglikelihoods, strict=True))
        seconds["cache"].append(time.process_time() - start)
    difference = max(
        abs(left - right)
        for at, scored in enumerate(trees)
        for left, right in zip(scored.loglikelihoods, cached[at], strict=True)
    )
    for name, spent in seconds.items():
        print(f"{name}: {', '.join(f'{value:.2f}' for value in spent)} s, {n_items} items, {dtype}")
    print(f"largest difference {difference:.1e} nats")


if __name__ == "__main__":
    main()
