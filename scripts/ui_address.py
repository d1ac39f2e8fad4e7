"""Print the address of isogloss's runs in MLflow's pages, for `make ui`: PORT as the argument.

MLflow opens any other address on traces of GenAI applications, the list of experiments included.
A port that is in use is refused with status 2, before MLflow starts.
Standard library only: importing MLflow takes longer than starting its pages.
"""

import errno
import socket
import sqlite3
import sys
from contextlib import closing

HOST = "127.0.0.1"
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
    return f"http://{HOST}:{port}/#/{page}?{MODE}"


def problem(port: str) -> str | None:
    """Why MLflow cannot serve this port of this machine; None if it can."""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        return f"PORT is {port!r}; expected a number from 1 to 65535"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server of MLflow does
        try:
            server.bind((HOST, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = int(port) + 1 if int(port) + 1 < 2**16 else 5000
                return f"port {port} is in use; choose another with make ui PORT={other}"
            return f"port {port} cannot be used ({error.strerror})"
    return None


def main(port: str) -> int:
    """Print the address; return the exit status."""
    if refusal := problem(port):
        print(refusal, file=sys.stderr)
        return 2
    print(f"in about ten seconds: {address('mlflow.db', port)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
