"""Which differences between runs rule out a comparison, and how the error names them."""

from itertools import count

import pytest
from logged_runs import run_tags
from mlflow.entities import Run, RunData, RunInfo, RunTag

from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ComparisonError
from isogloss.stages.comparable_runs import check_comparable, run_key
from isogloss.types import Condition

BASE = RunKey("m", Condition.BASE)
TUNED = RunKey("m", Condition.TUNED, "arb_Arab", "0")
numbers = count()


def run(key: RunKey = BASE, **tags: str | None) -> Run:
    number = next(numbers)
    info = RunInfo(
        run_id=f"run-{number}", experiment_id="0", user_id="", status="FINISHED",
        start_time=number, end_time=None, lifecycle_stage="active",
    )  # fmt: skip
    return Run(info, RunData(tags=[RunTag(*pair) for pair in run_tags(key, **tags).items()]))


@pytest.mark.parametrize(
    "name", ["task", "format", "normalisation", "prompt_version", "prompt_language"]
)
def test_all_runs_must_agree_in_what_was_asked(name):
    check_comparable([run(), run(TUNED)])
    other_model = run(TUNED._replace(model="n"), **{name: "other"})
    with pytest.raises(ComparisonError, match=f"the runs cannot be compared: {name} is "):
        check_comparable([run(), run(TUNED), other_model])


@pytest.mark.parametrize("name", ["revision", "dtype", "attention", "chat", "recipe"])
def test_the_runs_of_a_model_must_agree_in_how_it_was_computed(name):
    base, tuned = run(**{name: "one"}), run(TUNED, **{name: "other"})
    check_comparable([base, run(TUNED._replace(model="n"), **{name: "other"})])
    with pytest.raises(ComparisonError) as error:
        check_comparable([base, tuned])
    assert str(error.value) == (
        f"the runs of m cannot be compared: {name} is 'one' in {base.info.run_id}; 'other' in "
        f"{tuned.info.run_id}. Leave out what does not belong, such as "
        f"without={base.info.run_id}, name a `study`, or choose with `runs` or `tags`."
    )


def test_the_advice_names_one_of_several_studies():
    runs = [run(study="first"), run(TUNED, study="second", dtype="other")]
    with pytest.raises(ComparisonError, match="name one study, such as study=first, or choose"):
        check_comparable(runs)


def test_the_runs_of_a_kind_of_reasoning_must_agree_in_the_length_of_answers():
    thinking = RunKey("m", Condition.BASE_COT)
    check_comparable([run(max_new_tokens="8"), run(thinking, max_new_tokens="512")])
    with pytest.raises(
        ComparisonError,
        match=r"of m with cot reasoning cannot be compared: max_new_tokens is '8' in",
    ):
        check_comparable([run(thinking, max_new_tokens="8"), run(thinking, max_new_tokens="512")])


def test_runs_without_a_tag_are_comparable_with_any():
    check_comparable([run(dtype=None), run(TUNED, dtype="bfloat16")])


def test_different_items_of_a_language_are_rejected_by_digest():
    base = run(language_digests="amh_Ethi:1 heb_Hebr:2")
    check_comparable([base, run(TUNED, language_digests="heb_Hebr:2 deu_Latn:4")])
    with pytest.raises(ComparisonError, match=r"items differ in heb_Hebr .*: 2 in run-\d+; 3 in"):
        check_comparable([base, run(TUNED, language_digests="amh_Ethi:1 heb_Hebr:3")])


def test_different_adapters_of_one_seed_are_rejected():
    check_comparable([run(TUNED), run(TUNED._replace(seed="1"))])
    with pytest.raises(ComparisonError, match="have different adapters but are all m, tuned on"):
        check_comparable([run(TUNED), run(TUNED, adapter="another")])


def test_the_key_of_a_run_has_its_adapter_only_where_one_is_applied():
    assert run_key(run(BASE)) == BASE
    assert run_key(run(TUNED)) == TUNED
    assert run_key(run(TUNED, seed=None, adapter="a" * 64)).seed == "aaaaaaaa"
    assert run_key(run(BASE, seed="3")) == RunKey("m", Condition.BASE, "", "3")


def test_an_unknown_condition_is_rejected():
    with pytest.raises(ComparisonError, match="has the condition 'odd'; expected one of base, "):
        run_key(run(condition="odd"))
