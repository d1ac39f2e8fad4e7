"""Parameters of the entry point `tune`."""

from typing import Annotated, Literal

from pydantic import Field, field_serializer

from isogloss.config import fields
from isogloss.config.numbers import Count
from isogloss.config.shared import SharedConfig
from isogloss.config.words import text
from isogloss.formatting import without_password


class TuneConfig(SharedConfig):
    """Search for a training recipe with Optuna, measured on source-language dev data only.

    Workers that share a study and a storage work on the same search; a search that was interrupted
    resumes.
    """

    task: fields.TrainedTaskName = "probe"
    experiment: fields.Experiment = None
    trials: Annotated[
        Count,
        Field(
            description="total number of trials, including those of other workers and earlier calls"
        ),
    ] = 20
    space: Annotated[
        str,
        text("a YAML file"),
        Field(description="YAML file with the search space"),
    ] = "configs/spaces/lora.yaml"
    objective: Annotated[
        Literal["accuracy", "gold_logprob"],
        Field(
            description="what to maximise on dev data: accuracy, or gold_logprob (mean "
            "log-probability of the correct option, more sensitive near the ceiling)"
        ),
    ] = "accuracy"
    dev_limit: fields.DevLimit = 60
    measurements: Annotated[
        Count,
        Field(
            description="dev measurements per trial; a trial can be pruned after all but the last"
        ),
    ] = 4
    pruning: Annotated[
        bool,
        Field(
            description="stop a trial early if a paired Wilcoxon test over dev passages shows that "
            "it is worse than the best trial at the same stage"
        ),
    ] = True
    storage: Annotated[
        str,
        text("a journal file or an RDB URL"),
        Field(
            description="Optuna storage: a journal file, or an RDB URL such as "
            "postgresql+psycopg2://HOST/NAME"
        ),
    ] = "optuna.journal"

    @field_serializer("storage")
    def _without_password(self, storage: str) -> str:
        """The storage as it is logged."""
        return without_password(storage)
