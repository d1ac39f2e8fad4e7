"""Parameters of the entry point `import`."""

from typing import Annotated

from pydantic import Field

from isogloss.config import fields
from isogloss.config.words import NoneWord, text
from isogloss.types import Condition, Format

Column = Annotated[str, Field(min_length=1)]


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
    study: fields.StudyName = None
    experiment: fields.Experiment = None
