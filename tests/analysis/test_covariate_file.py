"""The user's own covariates: what is read, and what is refused with file and line."""

import pytest

from isogloss.analysis.covariate_file import read_covariates
from isogloss.errors import DataError


def written(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_column_of_numbers_is_a_covariate_and_empty_cells_have_no_value(tmp_path):
    path = written(tmp_path, "language,speakers,web share\nheb_Hebr,9.5,0.1\njpn_Jpan,,-2e3\n")
    assert read_covariates(path) == {
        "speakers": {"heb_Hebr": 9.5},
        "web share": {"heb_Hebr": 0.1, "jpn_Jpan": -2000.0},
    }


def test_names_whose_metrics_differ_are_read(tmp_path):
    text = "language,xp,x,rivers and lakes,scripts,gdp_p\nheb_Hebr,1,2,3,4,5\n"
    assert list(read_covariates(written(tmp_path, text))) == text.split("\n")[0].split(",")[1:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,x\nheb_Hebr,1\n", "has no column 'language'"),
        ("language\nheb_Hebr\n", "has no column of numbers beside 'language'"),
        ("language,x\n", "has no rows"),
        ("language,x\nhebrew,1\n", "own.csv:2: unknown language 'hebrew'"),
        ("language,x\nheb_Hebr,1\nheb_Hebr,2\n", "own.csv:3: the language heb_Hebr occurs twice"),
        ("language,x\nheb_Hebr,many\n", "x must be a finite number or empty but is 'many'"),
        ("language,x\nheb_Hebr,inf\n", "x must be a finite number or empty but is 'inf'"),
        ("language,baseline\nheb_Hebr,1\n", "'baseline' would share a metric with 'baseline'"),
        ("language,Script\nheb_Hebr,1\n", "'Script' would share a metric with 'script'"),
        ("language,script_p\nheb_Hebr,1\n", "'script_p' would share a metric with 'script'"),
        ("language,x,x_p\nheb_Hebr,1,2\n", "'x_p' would share a metric with 'x'"),
        ("language,x y,x_y\nheb_Hebr,1,2\n", "'x y' would share a metric with 'x_y'"),
        (
            "language,baseline and script\nheb_Hebr,1\n",
            "'baseline and script' would share a metric with 'baseline and script'",
        ),
        (
            "language,x_and_script_p,x\nheb_Hebr,1,2\n",
            "'x_and_script_p' would share a metric with 'x and script'",
        ),
        ("language,50%\nheb_Hebr,1\n", "the column name '50%' is not possible"),
    ],
)
def test_anything_else_is_refused(tmp_path, text, message):
    with pytest.raises(DataError) as caught:
        read_covariates(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a file; expected a CSV file of covariates"):
        read_covariates(tmp_path / "missing.csv")
