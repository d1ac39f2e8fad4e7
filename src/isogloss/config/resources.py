"""What a cell of a study needs of a machine, where a launcher asks for it."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from isogloss.config.fields import Config
from isogloss.config.numbers import PositiveNumber


class Resources(Config):
    """GPUs, processors and memory of each cell of a model; what is not stated is estimated."""

    gpus: Annotated[
        NonNegativeInt | None, Field(description="GPUs; default: as few as hold the model")
    ] = None
    cpus: Annotated[PositiveInt | None, Field(description="processors; default: 1")] = None
    memory_gb: Annotated[
        PositiveNumber | None,
        Field(description="main memory in GB (10^9 bytes); default: the peak that is estimated"),
    ] = None

    def over(self, other: "Resources") -> "Resources":
        """These resources, and those of `other` where these state none."""
        return other.model_copy(update=self.model_dump(exclude_none=True))
