"""Print the address of isogloss's runs in MLflow's pages, for `make ui`: PORT as the argument.

MLflow opens any other address on traces of GenAI applications, the list of experiments included.
Standard library only: importing MLflow takes longer than starting its pages.
"""

import sqlite3
import sys
from contextlib import closing

EXPERIMENT = "isogloss"
MODE = "workflowType=machine_learning"  # "Model training", kept by the browser from then on


def address(store: str, port: str) -> str:
    """Return the address of the runs in this SQLite store, or of all experiments without any."""
    found = None
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
            query = "SELECT experiment_id FROM experiments WHERE name = ?"
            found = database.execute(query, [EXPERIMENT]).fetchone()
    except sqlite3.Error:  # no store yet
        pass
    page = f"experiments/{found[0]}/runs" if found else "experiments"
    return f"http://127.0.0.1:{port}/#/{page}?{MODE}"


if __name__ == "__main__":
    print(address("mlflow.db", sys.argv[1]))
