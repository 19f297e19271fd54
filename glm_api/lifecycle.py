"""Ties the pipeline's life to that of gunicorn's worker; called from ``gunicorn.conf.py``.

gunicorn calls no hook when a worker is told to finish, and kills it at ``graceful_timeout``. So the worker's signal
handler is wrapped here: new work is refused at once, and shortly before the end whatever still runs gets its error.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Protocol

from glm_api.pipeline import pipeline

# What it takes to write the last frames of all streams, in seconds, and the most of the grace that it may use up.
_CLOSING_SECONDS = 2.0
_CLOSING_SHARE = 0.2


class Worker(Protocol):
    """The part of gunicorn's worker that is used."""

    cfg: Any

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting connections and finish (SIGTERM)."""


def worker_started(worker: Worker) -> None:
    """The application is loaded and the worker is about to serve: start the pipeline, without waiting for it."""
    grace = float(worker.cfg.graceful_timeout)

    def finish(number: int, frame: FrameType | None) -> None:
        pipeline.drain()
        closing = min(_CLOSING_SECONDS, _CLOSING_SHARE * grace)
        timer = threading.Timer(grace - closing, pipeline.stop)
        timer.daemon = True
        timer.start()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, finish)
    pipeline.start()


def worker_stopped() -> None:
    """The worker ends: so do its children."""
    pipeline.stop()
