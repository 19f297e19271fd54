"""Start and stop the backend with gunicorn's worker; called from ``gunicorn.conf.py``.

gunicorn calls no hook when a worker is told to finish, and kills it at ``graceful_timeout``. So the worker's signal
handler is wrapped here: new work is refused at once, and shortly before the end whatever still runs gets its error.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Protocol

from glm_api.backend.base import Backend

# What it takes to write the last frames of all streams, in seconds, and the most of the grace that it may use up.
_CLOSING_SECONDS = 2.0
_CLOSING_SHARE = 0.2


class Worker(Protocol):
    """The part of gunicorn's worker that is used."""

    cfg: Any
    wsgi: Any

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting connections and finish (SIGTERM)."""


def worker_started(worker: Worker) -> None:
    """The application is loaded and the worker is about to serve: start its backend, without waiting for it."""
    backend: Backend = worker.wsgi.extensions["glm_backend"]
    told_to_finish = threading.Event()

    def finish(number: int, frame: FrameType | None) -> None:
        # gevent runs this inside its event loop, where nothing may block: not even a thread can be started.
        backend.drain()
        told_to_finish.set()
        worker.handle_exit(number, frame)

    threading.Thread(
        target=_end_in_time, args=(backend, told_to_finish, worker.cfg.graceful_timeout), daemon=True
    ).start()
    signal.signal(signal.SIGTERM, finish)
    backend.start()


def _end_in_time(backend: Backend, told_to_finish: threading.Event, grace: float) -> None:
    """Once told, wait for most of the ``grace`` (seconds), then end what still runs with a proper error."""
    told_to_finish.wait()
    time.sleep(grace - min(_CLOSING_SECONDS, _CLOSING_SHARE * grace))
    backend.stop()


def worker_stopped(worker: Worker) -> None:
    """The worker ends: so does its backend."""
    if worker.wsgi is not None:
        backend: Backend = worker.wsgi.extensions["glm_backend"]
        backend.stop()
