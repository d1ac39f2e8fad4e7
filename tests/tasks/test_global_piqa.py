import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from isogloss.errors import DataError
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.tasks import Item, items, languages_of, open_task, parallel_items
from isogloss.tasks.global_piqa import NONPARALLEL, PARALLEL, load
from isogloss.tasks.hub_files import HubFiles
from isogloss.types import EVALUATION_ONLY, Format, Split

SOLUTIONS = {PARALLEL.task: 4, NONPARALLEL.task: 2}
SETS = (PARALLEL, NONPARALLEL)
each_set = pytest.mark.parametrize("files", SETS, ids=[files.task for files in SETS])


def row(files: HubFiles, number: int, name: str = "eng_latn", /, **changed: Any) -> dict[str, Any]:
    """A row with the columns of the Hub's files; `supplement` is JSON, with quotes."""
    n = SOLUTIONS[files.task]
    own = (
        {f"eng_solution{at}": f"solution {at}" for at in range(4)} | {"categories": "food"}
        if files is PARALLEL
        else {"eng_translated0": "x", "eng_translated1": "y", "approx_cultural_score": "1"}
    )
    return {
        "prompt": f"Prompt {number} in {name}",
        **{f"solution{at}": f"solution {at} in {name}" for at in range(n)},
        "label": number % n,
        "language": name,
        **own,
        "example_id": f"{number}",
        "supplement": '{"note": "a \\"b\\""}',
    } | changed


def write(files: HubFiles, folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """A file as pandas writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / files.layout.removeprefix("data/").format(name=name)
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize("layout", [".", "data"], ids=["plain", "as on the Hub"])
def test_parallel_items_are_read_from_either_layout(tmp_path: Path, layout: str) -> None:
    write(PARALLEL, tmp_path / layout, "cmn_hans", [row(PARALLEL, 7, "cmn_hans")])
    task = open_task("global_piqa_parallel", str(tmp_path))
    assert (task.format, task.normalisation) == ("cloze", "length")
    assert (task.parallel, task.evaluation_only) == (True, True)
    assert languages_of(task, None) == ("zho_Hans",)
    assert items(task, "zho_Hans", Split.TEST, None) == [
        Item(
            item_id="7",
            passage_id="7",
            language="zho_Hans",
            passage="",
            question="Prompt 7 in cmn_hans",
            options=tuple(f"solution {at} in cmn_hans" for at in range(4)),
            answer=3,
        )
    ]


def test_questions_of_the_nonparallel_set_share_no_id_between_languages(tmp_path: Path) -> None:
    for name, count in (("eng_latn", 3), ("fra_latn_fran", 2), ("fra_latn_cana", 2)):
        rows = [row(NONPARALLEL, number, name) for number in range(count)]
        write(NONPARALLEL, tmp_path, name, rows)
    task = open_task("global_piqa_nonparallel", str(tmp_path))
    assert (task.parallel, task.languages) == (False, ("eng_Latn", "fra_Latn"))
    found = parallel_items(task, task.languages, Split.TEST, None)
    english, french = ({item.item_id for item in found[code]} for code in task.languages)
    assert english == {"eng_Latn/0", "eng_Latn/1", "eng_Latn/2"}
    assert french == {"fra_Latn/0", "fra_Latn/1"}
    assert {item.passage_id for item in found["fra_Latn"]} == french
    assert found["fra_Latn"][0].question.endswith("in fra_latn_fran")


def test_the_parallel_set_must_be_parallel(tmp_path: Path) -> None:
    write(PARALLEL, tmp_path, "eng_latn", [row(PARALLEL, 1), row(PARALLEL, 2)])
    write(PARALLEL, tmp_path, "swh_latn", [row(PARALLEL, 1, "swh_latn")])
    task = open_task("global_piqa_parallel", str(tmp_path))
    with pytest.raises(DataError, match="swh_Latn lacks 1 items that eng_Latn has: 2"):
        parallel_items(task, ("eng_Latn", "swh_Latn"), Split.TEST, None)


@each_set
def test_every_item_is_a_test_item(files: HubFiles, tmp_path: Path) -> None:
    write(files, tmp_path, "eng_latn", [row(files, number) for number in range(9)])
    task = open_task(files.task, str(tmp_path))
    assert items(task, "eng_Latn", Split.ALL, None) == items(task, "eng_Latn", Split.TEST, None)
    for split in (Split.TRAIN, Split.DEV):
        with pytest.raises(DataError, match=f"has no items of split '{split}'"):
            items(task, "eng_Latn", split, None)


def test_the_sets_are_those_that_are_for_evaluation_alone() -> None:
    assert tuple(files.task for files in SETS) == EVALUATION_ONLY


def test_prompts_show_the_solutions_as_options_or_continue_by_them(tmp_path: Path) -> None:
    write(NONPARALLEL, tmp_path, "eng_latn", [row(NONPARALLEL, 1)])
    [item] = load(NONPARALLEL, "eng_Latn", Split.TEST, str(tmp_path))
    assert prompt(item, Protocol(Format.CLOZE)) == (
        "Q: Prompt 1 in eng_latn\nAnswer:",
        (" solution 0 in eng_latn", " solution 1 in eng_latn"),
    )
    assert prompt(item, Protocol(Format.LETTER)) == (
        "Q: Prompt 1 in eng_latn\nA: solution 0 in eng_latn\nB: solution 1 in eng_latn\nAnswer:",
        (" A", " B"),
    )


@each_set
def test_the_hub_s_files_are_read_from_its_cache_at_the_pinned_revision(
    files: HubFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = f"datasets--{files.repository.replace('/', '--')}"
    snapshot = tmp_path / folder / "snapshots" / files.revision
    write(files, snapshot / "data", "ekk_latn", [row(files, 1, "ekk_latn")])
    write(files, snapshot / "data", "bgc_deva", [row(files, 1, "bgc_deva")])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task = open_task(files.task, None)
    assert task.languages == ("est_Latn",)
    assert len(items(task, "est_Latn", Split.TEST, None)) == 1
    with pytest.raises(DataError, match=r"parallel_eng_latn\.tsv cannot be downloaded"):
        load(files, "eng_Latn", Split.TEST, None)


@each_set
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": " "}, "prompt must be text but is ' '"),
        ({"solution1": ""}, "solution1 must be text but is ''"),
        ({"label": "4"}, "label must be 0 to [13] but is '4'"),
        ({"label": "-1"}, "label must be 0 to [13] but is '-1'"),
        ({"label": "A"}, "label must be 0 to [13] but is 'A'"),
        ({"label": "1.0"}, r"label must be 0 to [13] but is '1\.0'"),
        ({"example_id": ""}, "example_id must be text but is ''"),
        ({"example_id": "1"}, "duplicate item '(eng_Latn/)?1'; the first is at"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(
    files: HubFiles, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    write(files, tmp_path, "eng_latn", [row(files, 1), row(files, 2, **change)])
    with pytest.raises(DataError, match=rf"parallel_eng_latn\.tsv:3: {message}"):
        load(files, "eng_Latn", Split.TEST, str(tmp_path))


@each_set
@pytest.mark.parametrize("missing", ["prompt", "solution0", "label", "example_id"])
def test_a_missing_column_is_named(files: HubFiles, tmp_path: Path, missing: str) -> None:
    rows = [{name: value for name, value in row(files, 1).items() if name != missing}]
    write(files, tmp_path, "eng_latn", rows)
    with pytest.raises(DataError, match=f"there is no {missing}"):
        load(files, "eng_Latn", Split.TEST, str(tmp_path))


@each_set
def test_a_row_with_a_tab_too_many_is_an_error(files: HubFiles, tmp_path: Path) -> None:
    path = write(files, tmp_path, "eng_latn", [row(files, 1)])
    with path.open("a", newline="") as file:
        csv.writer(file, delimiter="\t").writerow([*row(files, 2).values(), "more"])
    with pytest.raises(DataError, match=r"\.tsv:3: \d+ values but \d+ columns"):
        load(files, "eng_Latn", Split.TEST, str(tmp_path))


@each_set
def test_missing_data_raise_an_error_that_names_them(files: HubFiles, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_dir 'nowhere' is not a folder"):
        open_task(files.task, "nowhere")
    with pytest.raises(DataError, match=rf"{files.task} finds no language .*parallel_\w+\.tsv"):
        open_task(files.task, str(tmp_path))
