"""A study of a tiny random model in six languages, with two steps of training."""

from pathlib import Path

from isogloss.config import StudyConfig

LANGUAGES = ("arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn", "tur_Latn")


def study_config(folder: Path, **changes: object) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "tiny",
            **({} if "models" in changes else {"model": str(folder)}),
            "dtype": "float32",
            "languages": LANGUAGES,
            "limit": 6,
            "finetune": {
                "steps": 2, "batch_size": 4, "limit": 8, "dev_limit": 4, "rank": 2, "alpha": 4,
            },
            **changes,
        }
    )  # fmt: skip
