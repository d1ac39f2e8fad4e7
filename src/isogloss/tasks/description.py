"""The description of a user's own data: `task.yaml`, or just the names of the files."""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from isogloss.config.fields import TaskName
from isogloss.errors import ConfigError
from isogloss.files import looked_for, user_path
from isogloss.formatting import closest, shortened
from isogloss.languages import table
from isogloss.types import Format, Normalisation, Split
from isogloss.yaml_files import load_yaml, validate

FILE = "task.yaml"
BUILT_IN: tuple[str, ...] = get_args(get_args(TaskName)[0])
EVALUATION_ONLY_DATA = "mrlbenchmarks/global-piqa-"  # data sets on the Hub with that beginning

Text = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$")]


def _known(code: str) -> str:
    if code not in table():
        example = " or ".join(closest(code, table(), cutoff=0.8)) or "eng_Latn"
        raise ValueError(f"{code!r} is not a FLORES-200 code such as {example}")
    return code


def _not_built_in(name: str) -> str:
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is the name of a built-in task")
    return name


def _part(split: Split) -> Split:
    if split == Split.ALL:
        raise ValueError("expected train, dev or test")
    return split


def _mapping(codes: object) -> object:
    if not isinstance(codes, list):
        return codes
    for code in codes:
        if not isinstance(code, str):
            raise ValueError(f"{shortened(repr(code))} is not a FLORES-200 code such as eng_Latn")
    return {code: code for code in codes}


Languages = Annotated[
    dict[Annotated[str, AfterValidator(_known)], Text],
    BeforeValidator(_mapping),
    Field(min_length=1),
]


Part = Annotated[Split, AfterValidator(_part)]


class Columns(BaseModel, extra="forbid", frozen=True):
    """Names of the columns in the data.

    A column not listed here has our name for it; all but question, options and answer may be
    absent. `options` is a column of lists or a list of columns.
    """

    item_id: Text | None = None
    passage_id: Text | None = None
    passage: Text | None = None
    question: Text = "question"
    options: Text | Annotated[tuple[Text, ...], Field(min_length=2)] | None = None
    answer: Text = "answer"
    split: Text | None = None


class Description(BaseModel, extra="forbid", frozen=True):
    """One data set, in a folder or on the Hub.

    `languages` maps FLORES-200 codes to their names in the data: a file name without extension, or
    the value of {language} in `config` or `data_files`. `splits` maps train, dev and test to splits
    of the data set on the Hub, or to values of the column that names the split.
    """

    name: Annotated[Text, AfterValidator(_not_built_in)]
    folder: Text | None = None
    hub: Text | None = None
    revision: Text | None = None
    config: Text | None = None
    data_files: Text | None = None
    languages: Languages | None = None
    columns: Columns = Columns()
    answer_from: Literal[0, 1, "letter", "text"] = 1
    splits: Annotated[dict[Part, Text], Field(min_length=1)] | None = None
    format: Format = Format.LETTER
    normalisation: Normalisation = Normalisation.LENGTH
    parallel: bool = True

    @property
    def evaluation_only(self) -> bool:
        """Whether the licence of the data allows no training."""
        return (self.hub or "").lower().startswith(EVALUATION_ONLY_DATA)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.splits and len(set(self.splits.values())) < len(self.splits):
            raise ValueError("splits maps two splits to one")
        names = list((self.languages or {}).values())
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"languages maps two codes to {repeated[0]!r}")
        if self.hub is None:
            for name in ("revision", "config", "data_files"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs hub, the name of a data set on the Hub")
            return self
        if self.folder is not None:
            raise ValueError("folder and hub are both set; expected one of them")
        if self.languages is None:
            raise ValueError("hub needs languages")
        if self.splits and self.columns.split:
            raise ValueError("splits names splits on the Hub, so columns.split cannot be set too")
        if (self.config is None) == (self.data_files is None):
            raise ValueError("hub needs one of config and data_files")
        if "{language}" not in (self.config or self.data_files or ""):
            raise ValueError("config or data_files must contain {language}")
        if self.data_files and ("{split}" in self.data_files) != (self.splits is not None):
            raise ValueError("data_files must contain {split} if splits is set, and only then")
        return self


def read_description(data_dir: str | None) -> tuple[Description, Path]:
    """The description in `data_dir` (a YAML file, or a folder) and the folder of the data.

    A folder without task.yaml is described by its name and its files. Raises ConfigError, naming
    the file, for an invalid description.
    """
    if data_dir is None:
        raise ConfigError(
            "task 'files' needs data_dir: a folder with one file per language, or a YAML file."
        )
    path = user_path(data_dir)
    if path.is_dir():
        if not (path / FILE).is_file():
            named: object = {"name": path.resolve().name}
            return validate(named, f"data_dir {data_dir!r}", Description, ConfigError), path
        path = path / FILE
    if not path.is_file() or path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"data_dir {data_dir!r} is neither a folder nor a YAML file{looked_for(data_dir)}."
        )
    try:
        text = path.read_text(encoding="utf-8")
        content = load_yaml(text, str(path), ConfigError)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}.") from None
    description = validate(content, str(path), Description, ConfigError, text)
    return description, path.parent / (description.folder or ".")
