"""Numbers of configurations, each with both of its bounds.

pydantic takes true for 1, and integers of any size, which torch, numpy and databases do not.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

LARGEST = 10**9
LARGEST_SEED = 2**32 - 1  # numpy's
LARGEST_RANK = 2**16
LARGEST_BATCH = 2**16


def _not_a_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


NUMBER = BeforeValidator(_not_a_truth_value)

Count = Annotated[int, NUMBER, Field(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, NUMBER, Field(ge=0, le=LARGEST)]
Rank = Annotated[int, NUMBER, Field(ge=1, le=LARGEST_RANK)]
Alpha = Annotated[int, NUMBER, Field(ge=1, le=LARGEST_RANK)]
BatchSize = Annotated[int, NUMBER, Field(ge=1, le=LARGEST_BATCH)]
SeedNumber = Annotated[int, NUMBER, Field(ge=0, le=LARGEST_SEED)]
LearningRate = Annotated[float, NUMBER, Field(gt=0, le=10)]
PositiveNumber = Annotated[float, NUMBER, Field(gt=0, le=1e18)]
NonNegativeNumber = Annotated[float, NUMBER, Field(ge=0, le=1e18)]
