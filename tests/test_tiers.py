"""The list of slow tests: it names tests that exist, and marks them with all their parameters."""

from pathlib import Path

import pytest
import tiers

ROOT = Path(__file__).resolve().parents[1]


def test_the_list_names_tests_that_exist():
    assert len(tiers.listed()) > 100
    for name in tiers.listed():
        file, *_, function = name.split("::")
        assert f"def {function}(" in (ROOT / file).read_text("utf-8"), name


def test_a_listed_test_is_slow_with_all_its_parameters(request: pytest.FixtureRequest):
    slow = {
        tiers.name_of(item.nodeid): item.get_closest_marker("slow") is not None
        for item in request.session.items
    }
    assert slow == {name: name in tiers.listed() for name in slow}


def test_the_list_is_written_from_durations(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    pytester.copy_example(str(Path(tiers.__file__)))
    pytester.makepyfile(
        test_new="import pytest, time\n"
        "@pytest.mark.parametrize('seconds', [0.3, 0.25])\n"
        "def test_slow(seconds): time.sleep(seconds)\n"
        "def test_quick(): pass\n",
        conftest="pytest_plugins = ['tiers']",
    )
    pytester.makeini("[pytest]\npythonpath = .\nmarkers = slow: of the list")
    pytester.makefile(".txt", slow_tests="test_new.py::test_quick\ntest_other.py::test_left_out\n")
    monkeypatch.setenv("ISOGLOSS_SLOW_TESTS", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    result = pytester.runpytest_subprocess("-m", "not slow or slow")
    result.assert_outcomes(passed=3)
    assert (pytester.path / "slow_tests.txt").read_text("utf-8").splitlines() == [
        "test_new.py::test_slow",
        "test_other.py::test_left_out",
    ]
    pytester.runpytest_subprocess("-m", "not slow").assert_outcomes(passed=1, deselected=2)
