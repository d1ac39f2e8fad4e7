"""Seeds are replicates of one training: of the same items, shown in the same way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.config import CompareConfig, EvaluateConfig, FinetuneConfig, StudyConfig
from isogloss.errors import ComparisonError
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.study import run_study
from isogloss.tracking import tag

pytestmark = pytest.mark.usefixtures("no_figures")

LANGUAGES = "heb_Hebr,amh_Ethi,fra_Latn,tur_Latn,swh_Latn"
TRAINING = {"steps": 1, "batch_size": 2, "dev_limit": 2, "rank": 2}
Settings = dict[str, object]


@pytest.fixture
def settings(model_folder: Callable[[str], Path]) -> Settings:
    return {"model": str(model_folder("llama")), "dtype": "float32", "study": "s"}


def train(settings: Settings, **changes: object) -> str:
    config = FinetuneConfig(**{**settings, **TRAINING, "limit": 4, "format": "letter", **changes})
    return str(finetune(config, Session.of(config)).info.run_id)


def compare(settings: Settings, *adapters: str) -> None:
    run_evaluate(
        EvaluateConfig(
            **settings, languages="heb_Hebr", limit=2, format="letter", adapter=("none", *adapters)
        )
    )
    collect_runs(CompareConfig(study="s"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "cloze"}, "training is 'probe (letter|cloze) english plain float32'"),
        ({"prompt_language": "target"}, "training is 'probe letter (english|target) plain"),
        ({"limit": 3}, "recipe is '1 steps of 2 of [34] items per language"),
    ],
)
def test_another_training_is_no_other_seed(
    change: Settings, message: str, settings: Settings
) -> None:
    with pytest.raises(ComparisonError, match=message):
        compare(settings, train(settings, seed=0), train(settings, seed=1, **change))


def test_other_items_are_no_other_seed(settings: Settings, tmp_path: Path) -> None:
    first = train(settings, seed=0)
    rows = [f"A question of number {number}?,one,two,1,train" for number in range(3)]
    rows += ["The last question?,one,two,1,train", "For dev?,one,two,1,dev"]
    head = "question,option_1,option_2,answer,split\n"
    data = {"task": "files", "data_dir": str(tmp_path)}
    (tmp_path / "arb_Arab.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "task.yaml").write_text("name: own\n")
    with pytest.raises(ComparisonError, match=r"training is '(own|probe) letter english plain"):
        compare(settings, first, train(settings, seed=1, source="arb_Arab", **data))


def test_replicates_and_sources_with_a_number_of_items_of_their_own(settings: Settings) -> None:
    sources = [{"source": "arb_Arab", "seeds": "0,1"}, {"source": "eng_Latn", "limit": 3}]
    run_study(
        StudyConfig(
            **settings,
            languages=LANGUAGES,
            limit=2,
            shuffle_options=True,
            sources=sources,
            finetune={**TRAINING, "limit": 4},
        )
    )
    runs = collect_runs(CompareConfig(study="s")).runs
    items = {tag(run, "training_items") for run in runs if tag(run, "source") == "arb_Arab"}
    assert len(items) == 1
    assert len({tag(run, "recipe") for run in runs} - {None}) == 2
