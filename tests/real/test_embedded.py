"""The embedded model: dequantised once, scored exactly, trained and reloaded exactly."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import probe

from isogloss.inference import generation, slot_decoding, slots
from isogloss.inference.generation import generate
from isogloss.inference.predict import predict
from isogloss.inference.scoring import score
from isogloss.models.adapters import attach, detach
from isogloss.models.language_model import Decoding, LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.shapes import published_shape, shape_of
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode, label_tokens
from isogloss.tasks import items, open_task
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe

pytestmark = pytest.mark.real
CLOZE = Protocol("cloze")
LETTER = Protocol("letter")
SOURCE = Path(__file__).parents[2] / "src"
DATA = Path(os.environ.get("ISOGLOSS_TEST_DATA", "absent"))


@pytest.fixture(scope="module")
def embedded() -> LanguageModel:
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield load(locate("embedded"), "float32")
    torch.set_num_threads(threads)


def test_the_shape_known_beforehand_is_that_of_the_files() -> None:
    assert published_shape("embedded") == shape_of(locate("embedded"))


def test_two_processes_that_start_at_once_make_one_whole_copy(tmp_path: Path) -> None:
    command = (
        "from isogloss import logs; from isogloss.models.locate import locate; logs.configure();"
        "print(locate('embedded').folder)"
    )
    environment = {
        **os.environ,
        "ISOGLOSS_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(SOURCE),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    folders = {Path(stdout.strip()) for stdout, _ in outputs}
    (folder,) = folders
    assert sum("dequantising" in stderr for _, stderr in outputs) == 1
    files = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert files == [folder.name, f"{folder.name}.lock"]
    started = time.monotonic()
    again = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True)
    assert again.returncode == 0
    assert b"dequantising" not in again.stderr
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("format", ["letter", "cloze"])
def test_shared_scoring_of_real_prompts_equals_one_sequence_at_a_time(
    embedded: LanguageModel, format: str
) -> None:
    chosen = [item for code in ("arb_Arab", "eng_Latn") for item in probe(code, "test", 4)]
    encoded = encode(embedded.tokenizer, [prompt(item, Protocol(format)) for item in chosen])
    shared, alone = (score(embedded, encoded, chosen, share) for share in (True, False))
    for left, right in zip(shared, alone, strict=True):
        assert left.loglikelihoods == pytest.approx(right.loglikelihoods, abs=1e-3)
        assert left.greedy == right.greedy


def test_a_few_steps_of_arabic_teach_the_probe_in_hebrew_and_the_adapter_reloads_exactly(
    embedded: LanguageModel, tmp_path: Path
) -> None:
    test = probe("heb_Hebr", "test", 16)
    recipe = Recipe(steps=12, eval_every=12)
    train_items, dev_items = probe("arb_Arab", "train", None), probe("arb_Arab", "dev", 8)
    train(
        embedded,
        TrainingJob("probe", train_items, dev_items, CLOZE, recipe, tmp_path / "adapter"),
    )
    base = predict(embedded, test, CLOZE, "probe")
    digest = attach(embedded, tmp_path / "adapter" / "last")
    with embedded.using(digest):
        tuned = predict(embedded, test, CLOZE, "probe")
    detach(embedded)
    again = load(locate("embedded"), "float32")
    with again.using(attach(again, tmp_path / "adapter" / "last")):
        assert predict(again, test, CLOZE, "probe") == tuned
    right = [sum(answer.correct for answer in answers) for answers in (base, tuned)]
    assert right[1] >= right[0] + 4, right


@pytest.mark.skipif(
    not (DATA / "sib200").is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with sib200/"
)
def test_the_base_model_knows_topics_of_english_sentences_better_than_chance(
    embedded: LanguageModel,
) -> None:
    task = open_task("sib200", str(DATA / "sib200"))
    chosen = items(task, "eng_Latn", "test", 40)
    answers = predict(embedded, chosen, Protocol("cloze", task.normalisation), "sib200")
    assert sum(answer.correct for answer in answers) / 40 > 2 / 7


def test_reasoning_in_a_batch_is_what_each_prompt_gives_alone(embedded: LanguageModel) -> None:
    items_ = probe("arb_Arab", "test", 1) + probe("eng_Latn", "test", 2)
    protocol = Protocol("cloze", reasoning="cot", max_new_tokens=12)
    together = predict(embedded, items_, protocol, "probe")
    alone = [predict(embedded, [item], protocol, "probe")[0] for item in items_]
    assert [one.text for one in together] == [one.text for one in alone]
    for left, right in zip(together, alone, strict=True):
        assert left.choice_logprobs == pytest.approx(right.choice_logprobs, abs=1e-3)
        assert left.text
        assert (left.greedy, left.forced) == (right.greedy, right.forced)


def test_letters_are_single_tokens_of_their_own_with_the_space_before_them(
    embedded: LanguageModel,
) -> None:
    said = label_tokens(embedded.tokenizer, probe("eng_Latn", "test", 1), Protocol("letter"))
    tokens = [embedded.tokenizer(f" {one}", add_special_tokens=False).input_ids for one in "ABCD"]
    bare = [embedded.tokenizer(one, add_special_tokens=False).input_ids for one in "ABCD"]
    assert all(len(ids) == 1 for ids in tokens)
    assert not {ids[0] for ids in tokens} & {ids[0] for ids in bare}
    assert said == ", ".join(f"' {one}' {ids}" for one, ids in zip("ABCD", tokens, strict=True))


@pytest.mark.skipif(
    not (DATA / "belebele").is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with belebele/"
)
@pytest.mark.parametrize("code", ["arb_Arab", "eng_Latn"])
def test_belebele_letters_equal_full_logits_of_one_prompt_at_a_time(
    embedded: LanguageModel, code: str
) -> None:
    chosen = items(open_task("belebele", str(DATA / "belebele")), code, "all", 4)
    for item, found in zip(
        chosen, predict(embedded, chosen, Protocol("letter"), "belebele"), strict=True
    ):
        ids = embedded.tokenizer(prompt(item, Protocol("letter")).context).input_ids
        with torch.inference_mode():
            logprobs_V = embedded.network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        tokens = [
            embedded.tokenizer(f" {one}", add_special_tokens=False).input_ids[0] for one in "ABCD"
        ]
        assert found.choice_logprobs == pytest.approx(logprobs_V[tokens].tolist(), abs=1e-3)
        assert found.valid == (int(logprobs_V.argmax()) in tokens)
        assert found.format_mass == pytest.approx(float(logprobs_V[tokens].exp().sum()), abs=1e-3)


@pytest.mark.skipif(
    not (DATA / "belebele").is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with belebele/"
)
def test_letters_in_bfloat16_are_close_to_float32(embedded: LanguageModel) -> None:
    task = open_task("belebele", str(DATA / "belebele"))
    rounded = load(locate("embedded"), "bfloat16")
    for code in ("eng_Latn", "arb_Arab"):
        chosen = items(task, code, "all", 24)
        exact, close = (
            torch.tensor(
                [row.choice_logprobs for row in predict(model, chosen, LETTER, "belebele")]
            )
            for model in (embedded, rounded)
        )
        errors = close - exact
        between = errors - errors.mean(-1, keepdim=True)  # what decides between letters
        assert float(between.square().mean().sqrt()) < 0.03, code
        # All letters of a prompt also gain or lose together: their share of the probability.
        assert float(errors.square().mean().sqrt()) < 0.06, code
        best = exact.topk(2, dim=-1).values
        changed = close.argmax(-1) != exact.argmax(-1)
        assert not bool((changed & (best[:, 0] - best[:, 1] > 0.1)).any()), code


def test_slots_give_the_texts_of_batches_and_of_transformers(
    embedded: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three prompts in two slots; the last two texts end by a test of their own."""
    chosen = probe("eng_Latn", "test", 2) + probe("arb_Arab", "test", 1)
    contexts = [prompt(item, Protocol("generate")).context for item in chosen]
    stops = [(lambda text, row=row: row > 0 and len(text) > 8 * row) for row in range(3)]
    expected = generate(embedded, contexts, 10, stops)
    whole = embedded.tokenizer(contexts[:1], return_tensors="pt")
    with torch.inference_mode():
        ids = embedded.network.generate(**whole, max_new_tokens=10, do_sample=False)
    new = ids[0, whole.input_ids.shape[1] :]
    assert expected[0].text == embedded.tokenizer.decode(new, skip_special_tokens=True)
    monkeypatch.setattr(slots, "SLOT_DEVICES", {"cpu"})
    monkeypatch.setattr(generation, "SLOT_DEVICES", {"cpu"})
    monkeypatch.setattr(slot_decoding, "MOST_SLOTS", 2)
    monkeypatch.setattr(embedded, "decoding", None)
    assert generate(embedded, contexts, 10, stops) == expected
    assert embedded.decoding == Decoding.SLOTS
