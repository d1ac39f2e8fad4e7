"""Each reason for an omission reads as one sentence with its facts."""

import pytest

from isogloss.analysis.omissions import Omission, OmissionReason, Predictor
from isogloss.analysis.score_matrix import RunKey
from isogloss.report.omissions import omission_sentence
from isogloss.types import Condition, Units

RUN = RunKey("m", Condition.TUNED, "arb_Arab", "1")
SENTENCES = [
    (
        Omission(OmissionReason.FAILED_CELLS, cells=("small · base",), problem="out of memory."),
        "The cell 'small · base' failed: out of memory.",
    ),
    (
        Omission(OmissionReason.FAILED_CELLS, cells=("a", "b", "c"), problem="it is not there."),
        "The cells 'a', 'b' and 'c' failed: it is not there.",
    ),
    # Part of the fingerprint of compare runs: this text must not change.
    (
        Omission(OmissionReason.UNFINISHED_RUN, run=RUN, run_id="3f", status="running"),
        "Run 3f (m, tuned on arb_Arab, seed 1) is left out: it is running.",
    ),
    (
        Omission(OmissionReason.STUDY_RUN, run_id="3f", problem="has 2 cells that failed"),
        "Study run 3f has 2 cells that failed.",
    ),
    (
        Omission(
            OmissionReason.MISSING_CONDITION,
            model="m",
            conditions=(Condition.BASE, Condition.TUNED),
            source="arb_Arab",
        ),
        "Model m is left out: it has no base and no tuned run with source arb_Arab.",
    ),
    (
        Omission(
            OmissionReason.MISSING_CONDITION,
            model="m",
            conditions=(Condition.BASE_COT,),
            source="arb_Arab",
        ),
        "Model m is left out: it has no base+cot run.",
    ),
    (
        Omission(OmissionReason.MISSING_LANGUAGES, run=RUN, languages=("heb_Hebr", "mlt_Latn")),
        "Languages left out because m, tuned on arb_Arab, seed 1 lacks them: heb_Hebr, mlt_Latn.",
    ),
    (
        Omission(
            OmissionReason.MISSING_SEEDS,
            model="m",
            conditions=(Condition.TUNED,),
            source="arb_Arab",
            seeds=("0", "2"),
        ),
        "Model m has no tuned run on arb_Arab with seed 0, 2.",
    ),
    (
        Omission(OmissionReason.NO_DOUBLE_DIFFERENCE, source="eng_Latn", problem="too few."),
        "No double difference against English: too few.",
    ),
    (
        Omission(
            OmissionReason.NO_SLOPE,
            predictor=Predictor.CHAIN_OF_THOUGHT,
            units=Units.LANGUAGES_WITHIN_MODELS,
            problem="one passage.",
        ),
        "No slope on chain of thought over languages within models: one passage.",
    ),
    (
        Omission(OmissionReason.MISSING_ITEMS, run=RUN, counts=(("heb_Hebr", 2),)),
        "m, tuned on arb_Arab, seed 1 lacks 2 items that other runs have: heb_Hebr 2.",
    ),
    (
        Omission(
            OmissionReason.MISSING_ITEMS,
            counts=(("heb_Hebr", 2), ("fra_Latn", 1)),
            totals=(("heb_Hebr", 100), ("fra_Latn", 100)),
        ),
        "3 items without an answer in some run are left out of all runs: heb_Hebr 2 of 100, "
        "fra_Latn 1 of 100.",
    ),
    (
        Omission(OmissionReason.MISSING_SOURCES, model="m", sources=("hin_Deva", "tur_Latn")),
        "Model m is not in the average of the crossed design: it was not tuned on hin_Deva, "
        "tur_Latn.",
    ),
    (
        Omission(
            OmissionReason.LOST_SOURCES, sources=("hin_Deva", "tur_Latn"), problem="no tuned run."
        ),
        "Sources Hindi (hin_Deva) and Turkish (tur_Latn) are left out: no tuned run.",
    ),
    (
        Omission(
            OmissionReason.SOURCES_NOT_CROSSED,
            sources=("arb_Arab+hin_Deva", "tur_Latn"),
            problem="pooled.",
        ),
        "Not in the effect over all sources: arb_Arab+hin_Deva, tur_Latn; pooled.",
    ),
    (
        Omission(
            OmissionReason.NO_CROSSED_DESIGN,
            sources=("hin_Deva", "urd_Arab"),
            problem="one branch.",
        ),
        "No crossed design of hin_Deva, urd_Arab: one branch.",
    ),
]


@pytest.mark.parametrize(("omission", "sentence"), SENTENCES)
def test_an_omission_is_one_sentence_with_its_facts(omission: Omission, sentence: str) -> None:
    assert omission_sentence(omission) == sentence


def test_every_reason_has_a_sentence() -> None:
    assert {omission.reason for omission, _ in SENTENCES} == set(OmissionReason)
