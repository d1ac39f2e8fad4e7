"""Each comparability key alone keeps runs apart, in comparisons and beside an adapter's results."""

from itertools import count

import pytest
from logged_runs import run_tags
from mlflow.entities import Run, RunData, RunInfo, RunTag

from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ComparisonError
from isogloss.stages.comparable_runs import check_comparable, differing_libraries
from isogloss.tracking.comparability import KEYS, OF_ADAPTERS, is_base_of
from isogloss.types import Condition

BASE = RunKey("m", Condition.BASE)
TUNED = RunKey("m", Condition.TUNED, "arb_Arab", "0")
VERSIONS = "generation:1 parser:3 probe:1 scoring:1"
LIBRARIES = "tokenizers:0.23.3 torch:2.13.0+cpu transformers:5.23.0"
numbers = count()

# For each key: the tag of the base run, and its value there and in the tuned run.
CASES = {
    **{
        name: (name, "one", "other")
        for name in (
            *("task", "format", "normalisation", "metric", "prompt_version", "prompt_language"),
            "answer_labels",
            *("revision", "dtype", "chat", "attention", "max_new_tokens", "max_length"),
            *("engine", "server_settings", "quick"),
        )
    },
    **{
        f"version of {component}": ("versions", VERSIONS, VERSIONS.replace(old, new))
        for component, old, new in (
            ("generation", "generation:1", "generation:2"),
            ("parser", "parser:3", "parser:4"),
            ("probe", "probe:1", "probe:2"),
            ("scoring", "scoring:1", "scoring:2"),
        )
    },
}


def run(key: RunKey, **tags: str | None) -> Run:
    number = next(numbers)
    info = RunInfo(
        run_id=f"run-{number}", experiment_id="0", user_id="", status="FINISHED",
        start_time=number, end_time=None, lifecycle_stage="active",
    )  # fmt: skip
    return Run(info, RunData(tags=[RunTag(*pair) for pair in run_tags(key, **tags).items()]))


def test_every_key_has_a_case() -> None:
    assert {key.name for key in KEYS} == {*CASES, *OF_ADAPTERS}


@pytest.mark.parametrize("name", CASES)
def test_one_key_alone_forbids_a_comparison_and_a_base(name: str) -> None:
    tag, one, other = CASES[name]
    base, same, differing = (
        run(BASE, **{tag: one}),
        run(TUNED, **{tag: one}),
        run(TUNED, **{tag: other}),
    )
    check_comparable([base, same])
    assert is_base_of(base, same)
    with pytest.raises(ComparisonError, match=f"cannot be compared: {name} is '"):
        check_comparable([base, differing])
    assert not is_base_of(base, differing)


def test_another_reasoning_has_another_base() -> None:
    assert not is_base_of(run(BASE), run(RunKey("m", Condition.TUNED_COT, "arb_Arab", "0")))


@pytest.mark.parametrize("name", ["attention", "max_length", "answer_labels"])
def test_a_tag_that_is_absent_by_default_is_a_difference(name: str) -> None:
    base, tuned = run(BASE, **{name: None}), run(TUNED, **{name: "512"})
    with pytest.raises(ComparisonError, match=f"cannot be compared: {name} is '"):
        check_comparable([base, tuned])
    assert not is_base_of(base, tuned)
    check_comparable([run(BASE, **{name: None}, imported="results.csv"), tuned])


def test_the_token_budget_of_base_and_tuned_must_be_one() -> None:
    thinking = RunKey("m", Condition.BASE_COT)
    tuned = RunKey("m", Condition.TUNED_COT, "arb_Arab", "0")
    check_comparable([run(thinking, max_new_tokens="256"), run(tuned, max_new_tokens="256")])
    with pytest.raises(
        ComparisonError, match=r"of m with cot reasoning .*: max_new_tokens is '256'"
    ):
        check_comparable([run(thinking, max_new_tokens="256"), run(tuned, max_new_tokens="512")])


@pytest.mark.parametrize(
    ("old", "new"), [("torch:2.13.0", "torch:3.0.0"), ("tokenizers:0.23.3", "tokenizers:0.24.0")]
)
def test_another_major_version_of_a_library_is_refused_unless_allowed(old: str, new: str) -> None:
    runs = [run(BASE, libraries=LIBRARIES), run(TUNED, libraries=LIBRARIES.replace(old, new))]
    name = old.split(":")[0]
    with pytest.raises(ComparisonError, match=f"the version of {name} is .*allow_versions=true"):
        check_comparable(runs)
    check_comparable(runs, allow_versions=True)


def test_another_minor_version_of_a_library_is_named(caplog: pytest.LogCaptureFixture) -> None:
    newer = LIBRARIES.replace("transformers:5.23.0", "transformers:5.24.0")
    runs = [run(BASE, libraries=LIBRARIES), run(TUNED, libraries=f"{newer} peft:0.21.2")]
    check_comparable(runs)
    ids = [entry.info.run_id for entry in runs]
    expected = f"transformers is '5.23.0' in {ids[0]}; '5.24.0' in {ids[1]}"
    assert differing_libraries(runs) == expected
    assert expected in caplog.text
