"""What stops a study is found before its first run; what is wrong with one model spares the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_study

from isogloss.config import StudyConfig
from isogloss.errors import ConfigError, DataError
from isogloss.stages.preflight import check_study
from isogloss.stages.session import Session
from isogloss.stages.study_cells import study_cells

Folders = Callable[[str], Path]
TRAINING = {"steps": 2, "batch_size": 2, "limit": 4, "dev_limit": 4, "rank": 2, "alpha": 4}


@pytest.fixture(autouse=True)
def nothing_is_loaded_or_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "isogloss.models.loading.load", lambda *_: pytest.fail("the model was loaded")
    )
    monkeypatch.setattr("mlflow.start_run", lambda *_, **__: pytest.fail("a run was opened"))


def study_config(folder: Path, **changes: object) -> StudyConfig:
    return tiny_study.study_config(folder, **{"finetune": TRAINING, **changes})


def unusable(config: StudyConfig) -> dict[str, str]:
    """The reasons of the cells that cannot be run, by label."""
    cells = study_cells(config)
    sessions = {cell.config.model: Session.of(cell.config) for cell in cells}
    reasons = check_study(config, sessions, cells).unusable
    assert list(reasons) == [cell for cell in cells if cell in reasons]
    return {cell.label: reason for cell, reason in reasons.items()}


def altered(folder: Path, copy: Path, **settings: object) -> Path:
    """A copy of a model with other settings in config.json."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | settings))
    return copy


def two(folder: Path, other: Path, **changes: object) -> StudyConfig:
    models = [{"model": str(folder), "label": "sound"}, {"model": str(other), "label": "other"}]
    return study_config(folder, models=models, **changes)


CELLS = [
    "other · base", "other · finetune · Standard Arabic, seed 0",
    "other · tuned · Standard Arabic, seed 0",
]  # fmt: skip


def test_a_sound_study_has_no_unusable_cells(model_folder: Folders) -> None:
    config = two(model_folder("gemma3"), model_folder("llama"), reasoning="both", format="letter")
    assert unusable(config) == {}


def test_prompts_beyond_a_context_window_cost_a_model_its_cells_and_a_single_model_the_study(
    model_folder: Folders, tmp_path: Path
) -> None:
    small = altered(model_folder("llama"), tmp_path / "small", max_position_embeddings=60)
    reasons = unusable(two(model_folder("gemma3"), small))
    assert list(reasons) == CELLS
    assert "36 of 36 prompts are longer than the context window of 60 tokens" in reasons[CELLS[0]]
    assert "in arb_Arab" in reasons[CELLS[1]]  # training items
    with pytest.raises(ConfigError, match=r"36 of 36 prompts are longer .* of 60 tokens"):
        unusable(study_config(small))


def test_only_the_condition_that_does_not_fit_is_lost(
    model_folder: Folders, tmp_path: Path
) -> None:
    small = altered(model_folder("llama"), tmp_path / "small", max_position_embeddings=1000)
    config = two(model_folder("gemma3"), small, reasoning="both", max_new_tokens=950)
    assert list(unusable(config)) == [
        "other · base+cot", "other · tuned+cot · Standard Arabic, seed 0",
    ]  # fmt: skip


def cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def without_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def encoder(folder: Path) -> None:
    settings = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    (folder / "config.json").write_text(json.dumps(settings))


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def broken_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('never') }}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, r"cannot be loaded \(model.safetensors: .*incomplete"),
        (without_a_shard, r"cannot be loaded \(model-00002-of-00002.safetensors: No such file"),
        (encoder, "has the architecture BertForMaskedLM, which is an encoder"),
        (damaged_tokenizer, "the tokenizer of model .* cannot be loaded"),
        (broken_template, r"the chat template cannot be rendered \(never\)"),
    ],
)
def test_a_model_that_cannot_be_used_is_named_and_spares_the_others(
    damage: Callable[[Path], None], message: str, model_folder: Folders, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder("llama"), broken)
    damage(broken)
    reasons = unusable(two(model_folder("gemma3"), broken))
    assert list(reasons) == CELLS
    (reason,) = set(reasons.values())
    with pytest.raises(ConfigError, match=message) as caught:
        unusable(study_config(broken))
    assert str(caught.value) == reason


def test_a_model_that_does_not_exist_refuses_the_study(model_folder: Folders) -> None:
    with pytest.raises(ConfigError, match="model 'nowhere/at-all' is neither"):
        unusable(two(model_folder("gemma3"), Path("nowhere/at-all")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": "heb_Hebr,amh_Ethi,xho_Latn,fra_Latn"}, "has no language 'xho_Latn'"),
        ({"sources": "arb_Arab,xho_Latn"}, "has no language 'xho_Latn'"),
        ({"finetune": {"dropout": 0.1, "target_modules": "all-linear+experts"}}, "dropout must"),
        ({"attention": "flash_attention_2"}, "attention is 'flash_attention_2', but the package"),
        ({"labels": "digits", "format": "cloze"}, "labels is 'digits', but prompts in cloze"),
    ],
)
def test_faults_of_the_study_refuse_it(
    changes: dict[str, object], message: str, model_folder: Folders
) -> None:
    with pytest.raises(ConfigError, match=message):
        unusable(study_config(model_folder("gemma3"), **changes))


def test_a_file_of_covariates_is_read_before_the_first_run(
    model_folder: Folders, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    config = study_config(model_folder("gemma3"), compare={"covariates": str(own)})
    with pytest.raises(DataError, match=r"own\.csv is not a file; expected a CSV file"):
        unusable(config)
    own.write_text("language,speakers\nheb_Hebr,9\nheb_Hebr,8\n")
    with pytest.raises(DataError, match=r"own\.csv:3: the language heb_Hebr occurs twice"):
        unusable(config)
    own.write_text("language,speakers\nheb_Hebr,9\namh_Ethi,8\n")
    assert unusable(config) == {}


CODES = ("eng_Latn", "fra_Latn", "spa_Latn", "por_Latn", "heb_Hebr", "amh_Ethi")


def own_data(folder: Path, **repeated: str) -> Path:
    """A task in six languages. `repeated`: the passage of test that one in train repeats, by code.

    Its id is another one, as in data with duplicates.
    """
    folder.mkdir()
    for code in CODES:
        rows = ["item_id,passage_id,passage,question,option_1,option_2,answer,split"]
        for number, split in enumerate(["train"] * 4 + ["dev"] * 2 + ["test"] * 3):
            text = f"The passage in {code} that has the number {number} of all nine passages"
            if split == "train" and number == 3 and code in repeated:
                text = text.replace("number 3", f"number {repeated[code]}")
            rows.append(f"i{number},p{number},{text},Which?,one,two,1,{split}")
        (folder / f"{code}.csv").write_text("\n".join(rows))
    return folder


def test_training_data_of_every_source_are_compared_with_what_is_evaluated(
    model_folder: Folders, tmp_path: Path
) -> None:
    changes = {
        "task": "files", "sources": "eng_Latn,fra_Latn", "compare": {"branch": "Semitic"},
        "languages": "spa_Latn,por_Latn,heb_Hebr,amh_Ethi",
    }  # fmt: skip
    clean = own_data(tmp_path / "clean")
    assert unusable(study_config(model_folder("gemma3"), data_dir=str(clean), **changes)) == {}
    # No target has the language of the source: its test items are read for the check.
    for code in ("eng_Latn", "fra_Latn"):
        data = own_data(tmp_path / code, **{code: "7"})
        message = rf"in {code}, and 1 of the 3 passages .* 'p7' \(as 'p3'\)"
        with pytest.raises(DataError, match=message):
            unusable(study_config(model_folder("gemma3"), data_dir=str(data), **changes))
