"""A damaged Optuna journal: what is whole is recovered, and nothing that is not."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from isogloss.errors import ConfigError
from isogloss.hpo import storage as storages
from isogloss.hpo.retry import has_outcome
from isogloss.hpo.storage import open_storage

TRIALS = 6
NAME = "journal"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a whole journal, in which two trials run at a time."""
    path = tmp_path_factory.mktemp("whole") / NAME
    study = optuna.create_study(
        study_name="search", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    study.set_user_attr("begun_with", {"seed": 0})
    for _ in range(TRIALS // 2):
        pair = [study.ask(), study.ask()]
        for trial in pair:
            trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)
            trial.report(0.5, 1)
            trial.suggest_int("rank", 1, 64)
        for trial in reversed(pair):
            study.tell(trial, trial.number / 10)
    return path.read_bytes().splitlines(keepends=True)


def trials_in(content: bytes, folder: Path) -> list[FrozenTrial]:
    (folder / NAME).write_bytes(content)
    storage = open_storage(str(folder / NAME))
    return optuna.load_study(study_name="search", storage=storage).get_trials()


def cases(lines: list[bytes]) -> list[tuple[int, int]]:
    """Each line that is not of a study, but the last, cut off after so many bytes."""
    return [
        (number, cut)
        for number, line in enumerate(lines[:-1])
        if json.loads(line)["op_code"] >= 4
        for cut in (13, 45, 90, len(line) - 3)
    ]


def test_a_line_cut_off_and_merged_with_the_next_costs_no_other_trial(
    lines: list[bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trials_in(b"".join(lines), tmp_path)
    assert [trial.state for trial in whole] == [TrialState.COMPLETE] * TRIALS
    for number, cut in cases(lines):
        damaged = b"".join([*lines[:number], lines[number][:cut], *lines[number + 1 :]])
        caplog.clear()
        trials = trials_in(damaged, tmp_path)
        kept = [trial for trial in trials if has_outcome(trial)]
        for trial in kept:
            same = whole[trial.number]
            assert (trial.params, trial.values) == (same.params, same.values)
            assert trial.intermediate_values == same.intermediate_values
        assert TRIALS - 2 <= len(kept) < TRIALS  # one lost, or both of which either may be it
        assert len(trials) == TRIALS
        assert f"{len(kept)} of its {TRIALS} trials are recovered" in caplog.text


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_last_line_cut_off_costs_the_trial_it_was_about(
    lines: list[bytes], tmp_path: Path, cut: int
) -> None:
    content = b"".join(lines)
    trials = trials_in(content[:-cut], tmp_path)
    complete = [trial.number for trial in trials if has_outcome(trial)]
    if cut == 1:  # the end of the line alone
        assert complete == [0, 1, 2, 3, 4, 5]
    else:
        assert complete == [0, 1, 2, 3, 5]
    for line in (tmp_path / NAME).read_bytes().splitlines():  # the journal is whole again
        json.loads(line)
    assert not list(tmp_path.glob(f"{NAME}.damaged-*")) or cut == 1


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("length", [1, 20, 60])
def test_a_record_of_the_study_that_a_killed_worker_has_not_finished_is_removed(
    lines: list[bytes], tmp_path: Path, number: int, length: int
) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"".join([*lines[:number], lines[number][:length]]))
    study = optuna.create_study(
        study_name="search", storage=open_storage(str(path)), load_if_exists=True
    )
    assert path.read_bytes().startswith(b"".join(lines[:number]))
    assert study.user_attrs == {}
    assert study.get_trials() == []
    assert [each.name for each in tmp_path.glob(f"{NAME}*")] == [NAME]


def test_two_whole_records_on_one_line_cost_nothing(lines: list[bytes], tmp_path: Path) -> None:
    merged = b"".join([*lines[:9], lines[9].rstrip(b"\n"), *lines[10:]])
    assert [trial.state for trial in trials_in(merged, tmp_path)] == [TrialState.COMPLETE] * TRIALS


@pytest.mark.parametrize("garbage", [b"\0" * 300, b"\xff\xfe half", b"{}"])
def test_after_a_line_of_which_not_even_the_kind_is_known_nothing_is_kept(
    lines: list[bytes], tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    half = 2 + (len(lines) - 2) // 3  # after the first two trials
    trials = trials_in(b"".join([*lines[:half], garbage + b"\n", *lines[half:]]), tmp_path)
    assert [trial.values for trial in trials] == [[0.0], [0.1]]
    assert f"2 of its {TRIALS} trials are recovered" in caplog.text


def test_the_damaged_file_is_kept_and_the_search_goes_on(
    lines: list[bytes], tmp_path: Path
) -> None:
    damaged = b"".join([*lines[:-2], lines[-2][:-30], lines[-1]])
    trials_in(damaged, tmp_path)
    (kept,) = tmp_path.glob(f"{NAME}.damaged-*")
    assert kept.read_bytes() == damaged
    study = optuna.load_study(study_name="search", storage=open_storage(str(tmp_path / NAME)))
    study.optimize(lambda trial: trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True), 2)
    again = optuna.load_study(study_name="search", storage=open_storage(str(tmp_path / NAME)))
    assert len(again.get_trials()) == TRIALS + 2


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_record_of_the_study_is_refused(
    lines: list[bytes], tmp_path: Path, number: int
) -> None:
    damaged = b"".join([*lines[:number], lines[number][:50] + b"\n", *lines[number + 1 :]])
    with pytest.raises(ConfigError, match=rf"damaged in line {number + 1}, which describes a st"):
        trials_in(damaged, tmp_path)
    assert (tmp_path / NAME).read_bytes() == damaged


def test_a_storage_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        open_storage(str(tmp_path))


def test_a_database_of_another_version_of_optuna_is_refused_and_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "ATTEMPTS", 1)
    open_storage("sqlite:///search.db")
    with sqlite3.connect(tmp_path / "search.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        database.execute("UPDATE version_info SET schema_version = 999")
    with pytest.raises(ConfigError, match=r"storage 'sqlite:///search\.db' cannot be used \("):
        open_storage("sqlite:///search.db")
    with pytest.raises(ConfigError) as raised:
        open_storage("postgresql+psycopg2://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(raised.value)


def test_workers_that_create_one_database_at_once_all_open_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storages, "ATTEMPTS", 1)
    with ThreadPoolExecutor(6) as workers:
        opened = list(workers.map(open_storage, ["sqlite:///folder/new.db"] * 6))
    assert [storage.get_all_studies() for storage in opened] == [[]] * 6
