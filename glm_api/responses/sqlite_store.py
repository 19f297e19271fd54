"""The store of responses in an SQLite file, which survives restarts and may be shared by servers on one machine.

No call waits for long: rows are few, a transaction writes one response, and the write-ahead log is not synced at each
of them. A file that cannot be used is reported in the log once, and tried again at the next call.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from glm_api.responses.store import Limits, ResponseStore, StoredResponse, StoreError, Turn

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# In the header of the file: whose file it is ("GLMr"), and the version of the table.
APPLICATION_ID = 0x474C4D72
VERSION = 1
# Seconds to wait for another process that writes; everybody waits meanwhile.
BUSY_SECONDS = 0.25

# The blobs come last, so that the rows can be counted without reading them.
_TABLE = """
CREATE TABLE responses (
    id TEXT PRIMARY KEY, owner BLOB NOT NULL, previous TEXT, used REAL NOT NULL, size INTEGER NOT NULL,
    items BLOB NOT NULL, body BLOB NOT NULL
)
"""
_INDEX = "CREATE INDEX responses_by_use ON responses (used, size)"
# Those that are left when the limits of number and bytes are applied from the latest used on.
_EVICT = """
DELETE FROM responses WHERE rowid IN (
    SELECT rowid FROM (
        SELECT rowid, row_number() OVER latest AS number, sum(size) OVER latest AS total FROM responses
        WINDOW latest AS (ORDER BY used DESC, rowid DESC)
    ) WHERE number > ? OR total > ?
)
"""


class SqliteStore(ResponseStore):
    """A store in the file ``path``, which is created if there is none; its folder must exist."""

    def __init__(self, path: Path, limits: Limits | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(limits or Limits(), clock)
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._fault: str | None = None
        # So many erased responses may still be in the write-ahead log.
        self._in_log = 0

    def open(self) -> None:
        """Open the file now. A fault is logged, not raised."""
        try:
            if self.sweep():
                with self._lock:
                    self._schedule()
        except StoreError:
            pass

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            self._disconnect()

    def put(self, response: StoredResponse) -> None:
        turn = response.turn
        row = (turn.id, response.owner, turn.previous, self._clock(), response.size, turn.items, response.body)

        def write(connection: sqlite3.Connection) -> int:
            erased = self._expire(connection)
            connection.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return erased + connection.execute(_EVICT, (self.limits.responses, self.limits.bytes)).rowcount

        erased = self._run(write)
        with self._lock:
            # The next sweep takes it out of the log, which would take too long here.
            self._in_log += erased
            self._schedule()

    def turn(self, owner: bytes, id: str) -> Turn | None:
        row = self._select("id, previous, items", owner, id)
        return None if row is None else Turn(row[0], row[1], row[2])

    def get(self, owner: bytes, id: str) -> StoredResponse | None:
        row = self._select("id, previous, items, body", owner, id)
        return None if row is None else StoredResponse(owner, Turn(row[0], row[1], row[2]), row[3])

    def renew(self, owner: bytes, ids: Iterable[str]) -> None:
        now = self._clock()
        rows = [(now, id, owner) for id in ids]
        self._run(
            lambda connection: connection.executemany("UPDATE responses SET used = ? WHERE id = ? AND owner = ?", rows)
        )

    def delete(self, owner: bytes, id: str) -> bool:
        count = self._run(
            lambda connection: (
                connection.execute(
                    "DELETE FROM responses WHERE id = ? AND owner = ? AND used > ?", (id, owner, self._oldest)
                ).rowcount
            )
        )
        self._truncate_log(count)
        return count > 0

    def sweep(self) -> bool:
        def erase(connection: sqlite3.Connection) -> tuple[int, int]:
            erased = self._expire(connection)
            return erased, connection.execute("SELECT count(*) FROM responses").fetchone()[0]

        erased, left = self._run(erase)
        self._truncate_log(erased + self._in_log)
        return left > 0

    @property
    def _oldest(self) -> float:
        return self._clock() - self.limits.seconds

    def _select(self, columns: str, owner: bytes, id: str) -> tuple[Any, ...] | None:
        query = f"SELECT {columns} FROM responses WHERE id = ? AND owner = ? AND used > ?"
        row: tuple[Any, ...] | None = self._run(
            lambda connection: connection.execute(query, (id, owner, self._oldest)).fetchone()
        )
        return row

    def _expire(self, connection: sqlite3.Connection) -> int:
        """Erase what is too old, and return how many those were."""
        # The clock may have been wrong: nothing was used later than now.
        connection.execute("UPDATE responses SET used = ?1 WHERE used > ?1", (self._clock(),))
        return connection.execute("DELETE FROM responses WHERE used <= ?", (self._oldest,)).rowcount

    def _truncate_log(self, erased: int) -> None:
        """Take what was ``erased`` out of the write-ahead log, too, unless another process reads from that just now."""
        if erased:
            self._run(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
            self._in_log = 0

    def _run(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``action``; all that it writes is one transaction. Raises `StoreError`."""
        with self._lock:
            try:
                connection = self._connection = self._connection or self._connect()
                with connection:
                    result = action(connection)
            except (sqlite3.Error, OSError) as error:
                self._disconnect()
                self._report(str(error))
                raise StoreError from None
            if self._fault is not None:
                self._fault = None
                logger.info("GLM_RESPONSE_STORE: %s can be used again.", self._path)
            return result

    def _connect(self) -> sqlite3.Connection:
        # SQLite gives its other files the rights of this one.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _prepare(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA secure_delete = ON")
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (owner, version) != (APPLICATION_ID, VERSION):
            if owner or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("it is the database of another program, or of another version of this one")
            connection.execute("PRAGMA journal_mode = WAL")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("PRAGMA synchronous = NORMAL")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            logger.error(
                "GLM_RESPONSE_STORE: %s cannot be used (%s). Responses are answered, but none is stored or found "
                "there until that is mended.",
                self._path,
                fault,
            )
