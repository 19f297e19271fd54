"""Two things: load the settings, also at a reload; and start, drain and stop the backend with gunicorn's worker.

``gunicorn.conf.py`` calls this, in the master and in the worker, and ``wsgi.py`` in the worker. Import nothing of the
application here but `config` and `hub`, because gunicorn's master imports this module, and what the master imports
stays unpatched by gevent in the worker.

gunicorn calls no hook when it tells a worker to finish, and kills the worker at ``graceful_timeout``. So the worker's
signal handler is wrapped here: new requests are refused at once, and running requests end with an error shortly before
the worker is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from config import Settings, SettingsError, load_settings
from hub import Fetch, fetched
from hub.repack import Repack, repacked

if TYPE_CHECKING:
    from glm_api.backend.base import Backend

logger = logging.getLogger(__name__)

# Time to write the last frames of all streams, in seconds, and the largest share of the grace period that it may take.
_CLOSING_SECONDS = 2.0
_CLOSING_SHARE = 0.2


class SettingsLoader:
    """Loads the settings; when a reload finds them wrong, keeps the last valid settings.

    gunicorn's master and the workers that it forks would otherwise end on a HUP, and all running answers with them.
    """

    def __init__(self) -> None:
        self._valid: Settings | None = None
        # The process that logged errors last, and these errors.
        self._logged: tuple[int, list[str]] | None = None

    def load(self, environ: Mapping[str, str], fetch: Fetch = fetched, repack: Repack = repacked) -> Settings:
        """Return the settings in ``environ``, see `config.load_settings`.

        Raises `SettingsError` as long as no settings were valid.
        """
        try:
            self._valid = load_settings(environ, fetch, repack)
        except SettingsError as error:
            if self._valid is None:
                raise
            self._log(error.lines)
        return self._valid

    def _log(self, lines: list[str]) -> None:
        """Log the errors, unless this is a worker whose master has just logged the same."""
        if self._logged != (os.getppid(), lines):
            for line in lines:
                logger.error("%s The previous settings stay in force.", line)
        self._logged = (os.getpid(), lines)


# The worker inherits the master's with the fork, so both go by the same settings.
settings_loader = SettingsLoader()


class Worker(Protocol):
    """The part of gunicorn's worker that is used here."""

    cfg: Any
    wsgi: Any

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting connections and finish (SIGTERM)."""


def worker_started(worker: Worker) -> None:
    """Start the backend, without waiting for it. The worker has loaded the application and is about to serve."""
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
    """Wait for the signal, then for most of ``grace`` (seconds); then end the requests that still run with an error."""
    told_to_finish.wait()
    time.sleep(grace - min(_CLOSING_SECONDS, _CLOSING_SHARE * grace))
    backend.stop()


def worker_stopped(worker: Worker) -> None:
    """Stop the backend, because the worker ends."""
    if worker.wsgi is not None:
        backend: Backend = worker.wsgi.extensions["glm_backend"]
        backend.stop()
