"""The description of a user's own data: `task.yaml`, or nothing but the names of its files."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from isogloss.errors import ConfigError
from isogloss.languages import table
from isogloss.types import Format, Normalisation, Split

FILE = "task.yaml"
OWN_NAMES = ("probe", "sib200", "belebele", "files")

Text = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$")]


def _known(code: str) -> str:
    if code not in table():
        raise ValueError(f"{code!r} is not a FLORES-200 code such as eng_Latn")
    return code


def _not_ours(name: str) -> str:
    if name in OWN_NAMES:
        raise ValueError(f"{name!r} is the name of one of isogloss's own tasks")
    return name


def _mapping(codes: Any) -> Any:
    return {code: code for code in codes} if isinstance(codes, list) else codes


Languages = Annotated[
    dict[Annotated[str, AfterValidator(_known)], Text],
    BeforeValidator(_mapping),
    Field(min_length=1),
]


class Columns(BaseModel, extra="forbid", frozen=True):
    """What the data call each column.

    One that is not named here goes by its own name, and all but question, options and answer may
    be absent. `options` is a column of lists or a list of columns.
    """

    item_id: Text | None = None
    passage_id: Text | None = None
    passage: Text | None = None
    question: Text = "question"
    options: Text | Annotated[tuple[Text, ...], Field(min_length=2)] | None = None
    answer: Text = "answer"


class Description(BaseModel, extra="forbid", frozen=True):
    """One data set, in a folder or on the Hub.

    `languages` maps FLORES-200 codes to what the data call them: the name of a file without its
    ending, or what stands for {language} in `config` or `data_files`. `splits` maps train, dev and
    test to splits of the Hub, or to values of the column `split`.
    """

    name: Annotated[Text, AfterValidator(_not_ours)]
    folder: Text | None = None
    hub: Text | None = None
    revision: Text | None = None
    config: Text | None = None
    data_files: Text | None = None
    languages: Languages | None = None
    columns: Columns = Columns()
    answer_from: Literal[0, 1, "letter", "text"] = 1
    splits: (
        Annotated[dict[Literal[Split.TRAIN, Split.DEV, Split.TEST], Text], Field(min_length=1)]
        | None
    ) = None
    format: Format = Format.LETTER
    normalisation: Normalisation = Normalisation.LENGTH
    parallel: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.splits and len(set(self.splits.values())) < len(self.splits):
            raise ValueError("splits names one split twice")
        if self.hub is None:
            for name in ("revision", "config", "data_files"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for data on the Hub but there is no hub")
            return self
        if self.folder is not None:
            raise ValueError("there are both folder and hub; expected one of them")
        if self.languages is None:
            raise ValueError("data on the Hub need languages")
        if (self.config is None) == (self.data_files is None):
            raise ValueError("data on the Hub need one of config and data_files")
        if "{language}" not in (self.config or self.data_files or ""):
            raise ValueError("config or data_files must hold {language}")
        if self.data_files and ("{split}" in self.data_files) != (self.splits is not None):
            raise ValueError("data_files holds {split} where there are splits, and only there")
        return self


def read_description(data_dir: str | None) -> tuple[Description, Path]:
    """The description that `data_dir` is or holds, and the folder it speaks of.

    A folder without task.yaml is described by its name and its files. Raises ConfigError, naming
    the file, for a description that cannot be used.
    """
    if data_dir is None:
        raise ConfigError(
            "task 'files' needs data_dir: a folder with one file a language, or a YAML file."
        )
    path = Path(data_dir).expanduser()
    if path.is_dir():
        if not (path / FILE).is_file():
            return _parse({"name": path.resolve().name}, f"data_dir {data_dir!r}"), path
        path = path / FILE
    if not path.is_file() or path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"data_dir {data_dir!r} is neither a folder nor a YAML file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    description = _parse(content, str(path))
    return description, path.parent / (description.folder or ".")


def _parse(content: Any, where: str) -> Description:
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = " ".join(map(str, first["loc"])) or "the whole"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {place} cannot be used: {message}.") from None
