"""The overlap of tokens of sources and targets, from the texts and tokenizer of evaluate runs."""

from collections import Counter
from types import SimpleNamespace

import pytest

from isogloss.analysis.score_matrix import RunKey
from isogloss.config import EvaluateConfig
from isogloss.stages.collect_runs import CollectedRuns
from isogloss.stages.evaluate import evaluate
from isogloss.stages.session import Session
from isogloss.stages.shared_vocabulary import shared_vocabulary, vocabulary_overlaps
from isogloss.stages.task_data import evaluation_data
from isogloss.types import Condition


class Words:
    """A tokenizer of single letters."""

    def __len__(self):
        return 128

    def __call__(self, texts, *, add_special_tokens):
        assert not add_special_tokens
        return SimpleNamespace(input_ids=[[ord(letter) for letter in text] for text in texts])


def test_the_overlap_is_the_sum_of_smaller_shares():
    texts = {"eng_Latn": ["aab", "c"], "deu_Latn": ["ab", "dd"], "heb_Hebr": ["xyz"]}
    overlaps = vocabulary_overlaps(Words(), texts, ["eng_Latn", "eng_Latn+heb_Hebr"])
    assert overlaps["eng_Latn", "deu_Latn"] == pytest.approx(0.25 + 0.25)  # a: .5 and .25, b: .25
    assert overlaps["eng_Latn", "eng_Latn"] == pytest.approx(1)
    assert overlaps["eng_Latn", "heb_Hebr"] == 0
    # Pooled: a .25, b .125, c .125 and a sixth of each of x, y and z.
    assert overlaps["eng_Latn+heb_Hebr", "deu_Latn"] == pytest.approx(0.25 + 0.125)


@pytest.fixture
def config(model_folder):
    return EvaluateConfig(
        model=str(model_folder("gemma3")), dtype="float32", languages="heb_Hebr,eng_Latn", limit=3
    )


def collected(run, sources=("arb_Arab", "tur_Latn")):
    tuned = {RunKey("m", Condition.TUNED, source, "0"): (run,) for source in sources}
    return CollectedRuns({RunKey("m", Condition.BASE): (run,), **tuned})


def test_it_is_that_of_the_evaluated_items_and_the_model_s_tokenizer(config, tokenizer):
    run = evaluate(config, Session(config.model, "float32"))
    overlaps = shared_vocabulary(collected(run))
    codes = ("arb_Arab", "eng_Latn", "heb_Hebr", "tur_Latn")
    assert set(overlaps) == {
        (source, code) for source in ("arb_Arab", "tur_Latn") for code in codes
    }
    counts = {}
    for code in ("tur_Latn", "eng_Latn"):
        _, items = evaluation_data(config.model_copy(update={"languages": (code,)}))
        texts = [
            "\n".join(filter(None, (item.passage, item.question, *item.options)))
            for item in items[code]
        ]
        counts[code] = Counter(
            token for text in texts for token in tokenizer.encode(text, add_special_tokens=False)
        )
    expected = sum(
        min(counts["tur_Latn"][token] / counts["tur_Latn"].total(), n / counts["eng_Latn"].total())
        for token, n in counts["eng_Latn"].items()
    )
    assert 0 < expected < 1
    assert overlaps["tur_Latn", "eng_Latn"] == pytest.approx(expected)
    assert shared_vocabulary(collected(run, ["arb_Arab"])) is None  # one source


def test_without_the_same_model_or_data_there_is_none(config, caplog):
    caplog.set_level("INFO")
    run = evaluate(config, Session(config.model, "float32"))
    run.data.tags["isogloss.revision"] = "another"
    assert shared_vocabulary(collected(run)) is None
    assert "of that revision is not on this machine" in caplog.text
    run = evaluate(config, Session(config.model, "float32"))
    run.data.tags["isogloss.data_digest"] = "another"
    assert shared_vocabulary(collected(run)) is None
    assert "the data of task 'probe' are not those of run" in caplog.text
