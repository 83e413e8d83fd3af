"""Verdicts of earlier runs, in .work/verdicts/<task>.sqlite.

SQLite in WAL mode: several processes read and write one file at the same time, and a killed process loses only the
batch that it had not committed. WAL needs a local disk: on a network share, use .work from one machine at a time.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.files import batches
from dartune.programs.verdict import Verdict

BUSY_S = 60  # how long to wait for another process's commit, which takes milliseconds
TABLES = """
create table if not exists verdicts
    (setting text, program text, verdict text, primary key (setting, program)) without rowid;
create table if not exists time_limits (setting text primary key, seconds real) without rowid;
"""
FIND = "select program, verdict from verdicts where setting = ? and program in (select value from json_each(?))"


class VerdictCache:
    """One task's verdicts by setting and program, and its time limits by setting. Close it after use.

    setting: hash of all that decides a verdict besides the program. program: hash of its normal form. Every method
    raises UserError when the file cannot be read or written.
    """

    def __init__(self, task: str) -> None:
        self._file = batches.WORK / "verdicts" / f"{task}.sqlite"
        with self._errors():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._file, timeout=BUSY_S, check_same_thread=False)
            with locked(self._file.parent):  # SQLite does not wait for a process that changes the journal's mode, too
                self._connection.execute("pragma journal_mode = wal")
                self._connection.executescript(TABLES)

    def close(self) -> None:
        """Close the database; the last process to do so also removes its -wal and -shm files."""
        self._connection.close()

    def find(self, setting: str, programs: Iterable[str]) -> dict[str, Verdict]:
        """Return the known verdicts of these programs, by program."""
        with self._errors():
            rows = self._connection.execute(FIND, (setting, json.dumps(list(programs)))).fetchall()
        return {program: from_json(verdict) for program, verdict in rows}

    def add(self, setting: str, verdicts: dict[str, Verdict]) -> None:
        """Store these verdicts in one transaction."""
        rows = [(setting, program, json.dumps(asdict(verdict))) for program, verdict in verdicts.items()]
        with self._errors(), self._connection:
            self._connection.executemany("insert or ignore into verdicts values (?, ?, ?)", rows)

    def time_limit(self, setting: str, measure: Callable[[], float]) -> float:
        """Return the stored time limit of this setting, in seconds. Where there is none, measure and store one.

        Of processes that measure at the same time, the first to store its limit decides.
        """
        query = "select seconds from time_limits where setting = ?"
        with self._errors():
            row = self._connection.execute(query, (setting,)).fetchone()
        if row is None:
            seconds = measure()
            with self._errors(), self._connection:
                self._connection.execute("insert or ignore into time_limits values (?, ?)", (setting, seconds))
                row = self._connection.execute(query, (setting,)).fetchone()
        return float(row[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            advice = "make room or the folder writable, or delete the file if it is damaged"
            raise UserError(f"{self._file}: verdicts cannot be kept there ({reason}); {advice}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, one process at a time; the kernel releases it however its holder ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def from_json(text: str) -> Verdict:
    """Return the verdict in a JSON object. Floats come back exactly; lists become the tuples that they were."""
    fields = json.loads(text).items()
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields}
    return Verdict(**values)
