"""What the probe refuses, in one sentence that says what was seen."""

from dataclasses import replace

import pytest

from isogloss.servers.probe import Findings, refusal

USABLE = Findings(
    server="the server at http://host/v1",
    prompt_tokens=40,
    expected_tokens=40,
    n_labels=4,
    labels=4,
    likely=("107", "562"),
    mass=0.7,
    temperature_effect=0.01,
    noise=0.01,
    adapter_effect=0.3,
)


def test_usable_findings_are_not_refused():
    assert refusal(USABLE) is None
    assert refusal(replace(USABLE, adapter_effect=None, labels=1)) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt_tokens": 41}, "counts 41 tokens in a prompt that has 40"),
        ({"mass": 1.9}, "add to 1.9 in probability"),
        ({"temperature_effect": 3.0}, "change by 3 nats with the temperature"),
        ({"labels": 0}, "no log-probability of any label; the most likely tokens are 107, 562"),
        ({"adapter_effect": 0.0}, "answers with the adapter as without it"),
        ({"adapter_effect": 0.01}, "those of one request repeated by 0.01"),
        ({"reasons": True}, "reasons before it answers"),
    ],
)
def test_a_server_that_would_score_wrongly_is_refused(change: dict, sentence: str):
    refused = refusal(replace(USABLE, **change))
    assert refused is not None
    assert sentence in refused
    assert refused.startswith("the server at http://host/v1 ")
    assert refused.count(". ") == 0
