"""Searches of runs: the database filters, every page is read, nothing else is."""

import mlflow
import pytest

from isogloss.tracking import search
from isogloss.tracking.search import experiments, find_runs


def log_run(experiment_id: str = "0", status: str = "FINISHED", **tags: str) -> str:
    client = mlflow.MlflowClient()
    run = client.create_run(experiment_id, tags=tags)
    client.set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def ids(*arguments: object, **named: object) -> list[str]:
    return [run.info.run_id for run in find_runs(*arguments, **named)]  # type: ignore[arg-type]


def test_runs_have_every_tag_and_come_newest_first() -> None:
    older, newer = log_run(a="1", b="2"), log_run(a="1", b="2", c="3")
    log_run(a="1", b="3")
    log_run(a="1")
    assert ids(["0"], {"a": "1", "b": "2"}) == [newer, older]
    assert ids(["0"], {"a": "1", "b": "2"}, {"c": "3"}) == [newer]


def test_deleted_runs_other_experiments_and_other_states_are_left_out() -> None:
    other = mlflow.create_experiment("other")
    found, failed, deleted = log_run(a="1"), log_run(a="1", status="FAILED"), log_run(a="1")
    elsewhere = log_run(other, a="1")
    mlflow.MlflowClient().delete_run(deleted)
    assert set(ids(["0"], {"a": "1"})) == {found, failed}
    assert set(ids(["0", other], {"a": "1"}, status="FINISHED")) == {found, elsewhere}
    assert ids([], {"a": "1"}) == []


def test_every_page_and_every_group_of_ids_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAGE", 2)
    monkeypatch.setattr(search, "IDS", 3)
    made = [log_run(a="1", number=str(number)) for number in range(7)]
    assert ids(["0"], {"a": "1"}) == made[::-1]
    assert set(ids(["0"], {"a": "1"}, run_ids=made[:5])) == set(made[:5])
    assert ids(["0"], {"a": "1"}, run_ids=["' OR 1", made[0]]) == [made[0]]
    assert ids(["0"], {"a": "1"}, run_ids=[]) == []


def test_a_run_that_two_pages_have_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAGE", 2)
    made = [log_run(a="1") for _ in range(4)]
    ask = mlflow.MlflowClient.search_runs

    def ask_while_others_log(client: mlflow.MlflowClient, *arguments: object, **named: object):  # type: ignore[no-untyped-def]
        page = ask(client, *arguments, **named)  # type: ignore[arg-type]
        log_run(a="1")
        return page

    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", ask_while_others_log)
    found = ids(["0"], {"a": "1"})
    assert len(found) == len(set(found))
    assert set(made) <= set(found)


def test_a_text_contained_in_a_tag_has_no_wildcards_of_the_filter_language() -> None:
    quoted = log_run(a='one\nit\'s "so"\\\ntwo')
    assert ids(["0"], {}, {"a": 'it\'s "so"\\'}) == [quoted]
    assert ids(["0"], {}, {"a": "it's not"}) == []


def test_every_experiment_is_listed_beyond_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {mlflow.create_experiment(f"e{number}") for number in range(5)}
    ask = mlflow.MlflowClient.search_experiments
    monkeypatch.setattr(
        mlflow.MlflowClient,
        "search_experiments",
        lambda client, page_token: ask(client, max_results=2, page_token=page_token),
    )
    assert {experiment.experiment_id for experiment in experiments()} == {"0", *made}


def test_only_the_runs_that_are_asked_for_leave_the_database() -> None:
    from benchmarks.scaling.statements import counted

    for number in range(30):
        log_run(a=str(number), study="many")
    with counted() as one:
        assert len(find_runs(["0"], {"a": "3"})) == 1
    with counted() as many:
        assert len(find_runs(["0"], {"study": "many"})) == 30
    assert one.rows < 20 < many.rows
    assert one.selects <= 10
