"""Recovery of a damaged Optuna journal: everything that is whole is kept.

A journal has one record of JSON per line. A worker that is killed while it writes, or a full disk,
leaves a line cut off, which is removed if it is the last. If another worker has appended the next
record to it, Optuna cannot read the file: a trial that lost a record is marked as failed and
replaced by a new one; the others are as they were.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileSymlinkLock
from optuna.trial import TrialState

from isogloss.errors import ConfigError
from isogloss.files import write_whole

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # JSON

# Optuna's codes of operations
CREATE_STUDY, DELETE_STUDY, CREATE_TRIAL, SET_STATE = 0, 1, 4, 6
OF_STUDIES, OF_TRIALS = range(4), range(5, 10)

START = '{"op_code":'
PREFIX = re.compile(
    r'\{"op_code":(?P<code>\d+),(?:"worker_id":"[^"]*",(?:"(?:trial|study)_id":(?P<id>\d+)[,}])?)?'
)
WORKER = "recovery"


@dataclass
class _Recovery:
    """The records of a journal as they are recovered, and the trials they describe."""

    records: list[Record] = field(default_factory=list)
    studies: dict[int, str] = field(default_factory=dict)  # names by id; deleted ones are left out
    created_studies: int = 0
    created_trials: int = 0  # of all studies: the id of the next trial
    finished: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Keep a whole record."""
        self.records.append(record)
        code = record["op_code"]
        if code == CREATE_STUDY and record["study_name"] not in self.studies.values():
            self.studies[self.created_studies] = record["study_name"]
            self.created_studies += 1
        elif code == DELETE_STUDY:
            self.studies.pop(record["study_id"], None)
        elif code == CREATE_TRIAL and record["study_id"] in self.studies:
            if TrialState(record.get("state", TrialState.RUNNING)).is_finished():
                self.finished.add(self.created_trials)
            self.created_trials += 1
        elif code == SET_STATE and TrialState(record["state"]).is_finished():
            self.finished.add(record["trial_id"])

    def replace_damaged(self, text: str) -> bool:
        """Put something in the place of a damaged record; whether that is possible.

        Trials are numbered by their creation, so one whose creation is lost is created as failed.
        """
        found = PREFIX.match(text)
        if found is None:
            return False
        code, number = int(found["code"]), None if found["id"] is None else int(found["id"])
        if code == CREATE_TRIAL:
            studies = list(self.studies) if number is None else [number]
            if len(studies) != 1:
                return False
            self.lost.add(self.created_trials)
            self.add(_failed_trial(studies[0]))
            return True
        if code not in OF_TRIALS:
            return False
        open_ = set(range(self.created_trials)) - self.finished
        for trial in sorted(open_ if number is None else open_ & {number}):
            self.lost.add(trial)
            self.add(_failure(trial))
        return True


def recover_journal(path: Path) -> None:
    """Repair a journal whose lines are cut off or merged; keep the damaged file beside it.

    Logs how many trials are recovered. What follows a line of which not even the kind is readable
    is dropped. Raises ConfigError if the record of a study itself is damaged.
    """
    if not path.is_file() or not _is_damaged(path.read_bytes()):
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()  # another worker may have been writing the last line
    try:
        content = path.read_bytes()
        if not _is_damaged(content):
            return
        whole = content[: content.rfind(b"\n") + 1]
        if _record(content[len(whole) :]) is None and not _is_damaged(whole):
            # Its writer was killed meanwhile; the trial, if it is of one, is tried again.
            os.truncate(path, len(whole))
            logger.info(f"journal {path}: a last line that is not whole is removed")
            return
        recovery, trials = _recover(content, path)
        kept = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        shutil.copy2(path, kept)
        lines = (json.dumps(record, separators=(",", ":")) + "\n" for record in recovery.records)
        write_whole(path, "".join(lines).encode())
    finally:
        lock.release()
    logger.warning(
        f"journal {path} was damaged: {recovery.created_trials - len(recovery.lost)} of "
        f"its {trials} trials are recovered, the others are replaced; the damaged file is {kept}"
    )


def _recover(content: bytes, path: Path) -> tuple[_Recovery, int]:
    """What can be recovered, and the number of trials that the journal had."""
    recovery, trials, dropping = _Recovery(), 0, False
    for number, piece in _pieces(content):
        found = PREFIX.match(piece) if isinstance(piece, str) else None
        code = int(found["code"]) if found else None
        if isinstance(piece, dict):
            code = piece["op_code"]
        trials += code == CREATE_TRIAL
        if dropping:
            continue
        if isinstance(piece, dict):
            recovery.add(piece)
        elif code in OF_STUDIES:
            raise ConfigError(
                f"journal {path} is damaged in line {number}, which describes a study, so its "
                f"trials cannot be recovered; delete it, or choose another storage."
            )
        else:
            dropping = not recovery.replace_damaged(piece)
    return recovery, trials


def _is_damaged(content: bytes) -> bool:
    whole = not content or content.endswith(b"\n")
    return not whole or any(_record(line) is None for line in content.splitlines())


def _pieces(content: bytes) -> Iterator[tuple[int, Record | str]]:
    """Each record with its line's number; the text of each damaged one."""
    for number, line in enumerate(content.split(b"\n"), 1):
        record = _record(line)
        if record is not None:
            yield number, record
            continue
        # Merged: each record begins alike, and the one before it is cut off or whole.
        text = line.decode("utf-8", errors="replace")
        starts = [found.start() for found in re.finditer(re.escape(START), text)]
        bounds = sorted({0, *starts, len(text)})
        for start, end in pairwise(bounds):
            part = text[start:end]
            yield number, _record(part) or part


def _record(line: str | bytes) -> Record | None:
    """The record of a line; None if it is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "op_code" in record else None


def _failed_trial(study: int) -> Record:
    now = datetime.now(tz=UTC).isoformat(timespec="microseconds")
    return {
        "op_code": CREATE_TRIAL,
        "worker_id": WORKER,
        "study_id": study,
        "datetime_start": now,
        "datetime_complete": now,
        "state": TrialState.FAIL,
        "value": None,
        "values": None,
        "distributions": {},
        "params": {},
        "user_attrs": {},
        "system_attrs": {},
        "intermediate_values": {},
    }


def _failure(trial: int) -> Record:
    return {
        "op_code": SET_STATE,
        "worker_id": WORKER,
        "trial_id": trial,
        "state": TrialState.FAIL,
        "values": None,
        "datetime_complete": datetime.now(tz=UTC).isoformat(timespec="microseconds"),
    }
