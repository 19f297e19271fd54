"""Format messages as lines, and write them to standard error without blocking.

The reader of standard error may be slow or stop reading. A write would then block, and with it the event loop and
``/health``. So a thread of the operating system writes, from a queue of `MOST_BYTES`. Lines that come while the queue
is full are dropped and counted; the next line that finds room is preceded by their number.

Import nothing of the application here but `faults`, because gunicorn's master imports this module, and what the master
imports stays unpatched by gevent in the worker.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from _queue import SimpleQueue
from typing import Any

import gevent
from gevent.monkey import get_original
from pythonjsonlogger.json import JsonFormatter as _JsonFormatter

from glm_api.log import faults

MOST_BYTES = 2**20
# Maximum wait, at the end of a process, for the lines that are not written yet.
LAST_SECONDS = 1.0

logger = logging.getLogger(__name__)

# The originals of what gevent replaces: a blocking write needs them.
_start_thread: Any = get_original("_thread", "start_new_thread")
_allocate_lock: Any = get_original("_thread", "allocate_lock")
_poll: Any = get_original("select", "poll")


class TextFormatter(logging.Formatter):
    """One line a message: control characters are escaped, so that nobody can add lines of their own to the log."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        line = self.formatMessage(record)
        if record.exc_info and record.exc_info[1] is not None:
            line += f": {faults.describe(record.exc_info[1])}"
        return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


class JsonFormatter(_JsonFormatter):
    """One JSON object a message."""

    def formatException(self, ei: Any) -> str:
        return faults.describe(ei[1]) if ei[1] is not None else ""


class LineWriter:
    """Writes lines to the file descriptor ``fd`` in their order, from a thread that may block.

    Its methods must be called by one thread at a time; logging handlers have a lock for that.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.begin()

    def begin(self) -> None:
        """Begin anew, also in a forked process: it inherits no threads, and the parent writes the queued lines."""
        self.untold = 0
        self._dropped = 0
        self._full = False
        self._lines: SimpleQueue[Any] = SimpleQueue()
        self._running = False
        # Only one thread changes each of these.
        self._taken = 0
        self._written = 0
        self._failed = 0

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped since the process began."""
        return self._dropped + self._failed

    def has_room(self) -> bool:
        """Return whether there is room for a line. A full queue has room again when half of it is written."""
        waiting = self._taken - self._written
        self._full = waiting >= (MOST_BYTES / 2 if self._full else MOST_BYTES)
        return not self._full

    def put(self, line: str) -> None:
        """Queue ``line`` for writing; never blocks."""
        data = f"{line}\n".encode(errors="backslashreplace")
        self._taken += len(data)
        self._lines.put(data)
        if not self._running:
            self._running = True
            _start_thread(self._run, (self._lines,))

    def drop(self) -> None:
        """Count a line for which there is no room."""
        self._dropped += 1
        self.untold += 1

    def flush(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than ``seconds``."""
        if self._running:
            done = _allocate_lock()
            done.acquire()
            self._lines.put(done)
            done.acquire(timeout=seconds)

    def _run(self, lines: SimpleQueue[Any]) -> None:
        # Signals are handled by the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            item = lines.get()
            if isinstance(item, bytes):
                try:
                    self._write(item)
                except OSError:
                    # The reader is gone for good.
                    self._failed += 1
                self._written += len(item)
            else:
                item.release()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Another process with the same terminal or pipe has made it non-blocking for all.
                writable = _poll()
                writable.register(self._fd, select.POLLOUT)
                writable.poll()


# One for the process, because a reload of the configuration makes a new handler.
stderr = LineWriter(2)
os.register_at_fork(after_in_child=stderr.begin)


class StderrHandler(logging.Handler):
    """Passes lines to the `LineWriter` of standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            place, fault = f"{record.pathname}:{record.lineno}", faults.describe(error)
            line = self._told(logging.ERROR, "The message of %s cannot be put together: %s", place, fault)
        if not stderr.has_room():
            stderr.drop()
            return
        self._tell_of_dropped()
        stderr.put(line)

    def flush(self) -> None:
        """Wait at most `LAST_SECONDS` for the lines that are not written yet. Called at the end of the process."""
        if stderr.has_room():
            self._tell_of_dropped()
        stderr.flush(LAST_SECONDS)

    def _tell_of_dropped(self) -> None:
        if stderr.untold:
            lines = f"{stderr.untold} log line{'s were' if stderr.untold > 1 else ' was'} dropped"
            stderr.untold = 0
            stderr.put(self._told(logging.WARNING, "%s: standard error was not read fast enough.", lines))

    def _told(self, level: int, message: str, *args: object) -> str:
        return self.format(logging.LogRecord(logger.name, level, __file__, 0, message, args, None))


def log_faults() -> None:
    """Log what Python, gevent and the warnings module would print. Called in the worker."""

    def tell(what: str, error: BaseException) -> None:
        logger.error("%s", what, exc_info=error)

    def in_greenlet(_context: object, _type: object, error: BaseException, _places: object) -> None:
        tell("A greenlet failed", error)

    faults.catch(tell)
    logging.captureWarnings(True)
    gevent.get_hub().print_exception = in_greenlet
