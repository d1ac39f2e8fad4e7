"""Parameters of the entry point `import`."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from isogloss.config import fields
from isogloss.config.words import NoneWord, separated, text
from isogloss.languages import table
from isogloss.types import Condition, Format, Missing

Column = Annotated[str, Field(min_length=1)]


def _language_name(pair: str) -> str:
    """Reject text that is not NAME=CODE with the code of a language."""
    name, _, code = (part.strip() for part in pair.rpartition("="))
    if not name or code not in table():
        raise PydanticCustomError(
            "language_name", "Input should be NAME=CODE with a FLORES-200 code such as arb_Arab"
        )
    return f"{name}={code}"


class ImportConfig(fields.Config):
    """Turn results of lm-evaluation-harness or inspect_ai, or your own tables, into evaluate runs.

    `auto` takes a value from the file; values that the file lacks must be set. See
    docs/how-to/import-results.md.
    """

    path: Annotated[
        str,
        text("a file, folder or pattern of results"),
        Field(description="file, folder or glob pattern of results"),
    ]
    model: Annotated[
        Annotated[str, text("the name of a model")] | None,
        NoneWord("auto"),
        Field(description="name of the model, the same for base and tuned; auto: from the file"),
    ] = None
    condition: Annotated[
        Condition | None,
        NoneWord("auto"),
        Field(description="base, tuned, base+cot, tuned+cot; auto: from the file"),
    ] = None
    source: Annotated[
        fields.SourceName | None,
        NoneWord("auto"),
        Field(
            description="language fine-tuned on, or several pooled ones joined by +; for base "
            "results, the language that groups are relative to; auto: from the file"
        ),
    ] = None
    seed: Annotated[
        Annotated[int, Field(ge=0)] | None,
        NoneWord("auto"),
        Field(description="seed, which distinguishes replicates; auto: from the file, or unknown"),
    ] = None
    task: Annotated[
        Annotated[str, text("the name of a task")] | None,
        NoneWord("auto"),
        Field(description="name of the task; auto: from the file"),
    ] = None
    format: Annotated[
        Format | None,
        NoneWord("auto"),
        Field(
            description="how choices were scored: letter, cloze or generate; auto: from the file"
        ),
    ] = None
    language: Annotated[
        Column | None,
        NoneWord("auto"),
        Field(description="FLORES-200 code, or the field that holds it; auto: from the file"),
    ] = None
    language_names: Annotated[
        tuple[Annotated[str, AfterValidator(_language_name)], ...] | None,
        separated(),
        NoneWord("none"),
        Field(
            description="what names of languages in the files mean: NAME=CODE, separated by "
            "commas, such as zh=zho_Hans; NAME may be that of a whole task; or none"
        ),
    ] = None
    passage: Annotated[
        Column | None,
        NoneWord("auto"),
        Field(description="field that identifies the passage of an item; auto: from the file"),
    ] = None
    metric: Annotated[
        Column | None,
        NoneWord("auto"),
        Field(
            description="what says that an answer is correct: METRIC or METRIC,FILTER of "
            "lm-evaluation-harness, SCORER or SCORER.KEY of inspect_ai, or a column; auto: from "
            "the file"
        ),
    ] = None
    missing: Annotated[
        Missing,
        Field(
            description="answers that are missing (failed or unscored samples, empty cells): "
            "refuse them, or drop them, which `compare` must do too"
        ),
    ] = Missing.REFUSE
    study: fields.StudyName = None
    experiment: fields.Experiment = None

    @property
    def language_codes(self) -> tuple[tuple[str, str], ...]:
        """Names and codes of `language_names`."""
        pairs = (pair.rpartition("=") for pair in self.language_names or ())
        return tuple((name, code) for name, _, code in pairs)
