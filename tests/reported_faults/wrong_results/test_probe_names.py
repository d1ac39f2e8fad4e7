"""Items of the probe do not depend on an installed package, as they did on Babel's version."""

import subprocess
import sys
from pathlib import Path

import isogloss
from isogloss.tasks import probe
from isogloss.tracking import data_digest

# With the names of CLDR 47, which Babel 2.18 has.
ALL_ITEMS = "e28990027627711d2c1340b39fc1b6d86b2cca31fd6431e0a9f639cb369ac5b2"


def test_the_items_of_all_languages_and_splits_are_those_of_cldr_47() -> None:
    items = [
        item
        for language in probe.languages()
        for split in probe.PASSAGES
        for item in probe.load(language, split)
    ]
    assert len(items) == 26400
    assert data_digest(items) == ALL_ITEMS


def test_the_probe_needs_no_babel() -> None:
    code = (
        "import sys; sys.modules['babel'] = None\n"
        "from isogloss.tasks import probe\n"
        "print(len(probe.load('urd_Arab', 'test')))"
    )
    source = str(Path(isogloss.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "400"
