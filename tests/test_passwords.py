"""Passwords in URLs: shown as *** wherever a person or a store reads text."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss import logs
from isogloss.config import TuneConfig
from isogloss.formatting import without_password

SECRET = "hun/ter2:@x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@work:pw@host/db", "postgresql://me@work:***@host/db"),
        ("postgresql://me:a/b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=me&password=pw", "postgresql://host/db?user=me&password=***"),
        ("http://host/v1?api_key=pw&n=1", "http://host/v1?api_key=***&n=1"),
        ("http://host/v1?X-Amz-Signature=pw", "http://host/v1?X-Amz-Signature=***"),
        ("the store http://me:pw@host/ is away", "the store http://me:***@host/ is away"),
        ("in /home/x/postgresql:/me@work:pw@host/db", "in /home/x/postgresql:/me@work:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("http://token@host:9/v1#name", "http://***@host:9/v1#name"),
        ("'model=HTTPS://to%40ken@host/v1'", "'model=HTTPS://***@host/v1'"),
        ("http://host/a@b", "http://host/a@b"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("mail me@host, see http://host:80/x", "mail me@host, see http://host:80/x"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert without_password(text) == shown


@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=12))
def test_no_password_is_shown(password: str) -> None:
    assert password not in without_password(f"postgresql://me:{password}@host/db")


def test_the_configuration_of_a_search_has_no_password() -> None:
    config = TuneConfig(storage=f"postgresql://me:{SECRET}@host/db?sslpassword={SECRET}")
    assert SECRET not in str(config.model_dump())
    assert SECRET in config.storage


def test_log_lines_have_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("isogloss.any").warning("waiting for http://me:%s@host/", SECRET)
    assert "waiting for http://me:***@host/" in capsys.readouterr().err
