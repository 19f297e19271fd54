"""The backend for the upstream: the queue in front of it, its models and its state."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from config import Settings
from glm_api.backend.admission import Admission
from glm_api.backend.base import Cause, ChildRole, Health, QueueDepth, State
from glm_api.backend.semaphore import FairSemaphore
from glm_api.upstream.connection import Address, Arrival, Broken, End, Exchange, Head
from glm_api.upstream.documents import as_unicode, read_object
from glm_api.upstream.request import UpstreamRequest

logger = logging.getLogger(__name__)

# Between two looks at the upstream's /models: while all is well, and while it is not. Seconds.
CHECK_SECONDS = 5.0
RECHECK_SECONDS = 1.0
# An upstream that takes longer to list its models answers nothing else either.
CHECK_TIMEOUT = 10.0
LARGEST_LIST = 2**20
# What a request is assumed to take before one has been measured, for Retry-After. Seconds.
ASSUMED_DURATION = 10.0


class UpstreamClient:
    """The client of the OpenAI-compatible server at ``GLM_UPSTREAM_URL``. Methods may be called from any thread.

    At most ``GLM_UPSTREAM_CONCURRENCY`` requests are with it at a time; the others wait in order of arrival. A request
    is sent once, even if it fails; only one that is refused for its ``stream_options`` is sent again without them.
    """

    restarts: Mapping[tuple[ChildRole, Cause], int] = {}

    def __init__(self, settings: Settings) -> None:
        self._semaphore: FairSemaphore[UpstreamRequest] = FairSemaphore(
            UpstreamRequest.take_turn, settings.queue_size, settings.upstream_concurrency
        )
        self._admission = Admission(self._semaphore, settings.queue_timeout, settings.request_timeout, ASSUMED_DURATION)
        self._address = Address(settings.upstream_url, settings.upstream_key)
        self._stopped = threading.Event()
        self._state: State = "loading"
        self._message = "The engine behind this server has not been reached yet."
        self.models: list[dict[str, Any]] = []
        self.refuses_stream_options = False
        """Whether the upstream has refused ``stream_options``, since it was last found unreachable."""

    def start(self) -> None:
        """Start to watch the upstream; return at once."""
        threading.Thread(target=self._watch, name="upstream-watch", daemon=True).start()

    def drain(self) -> None:
        """Refuse new requests and go on with admitted ones."""
        self._admission.drain()

    def stop(self) -> None:
        """Stop: running requests fail with `Interrupted`, waiting ones with `ShuttingDown`. Idempotent."""
        self._stopped.set()
        self._admission.stop()

    def health(self) -> Health:
        """Return the state at the last check; never wait."""
        if self._admission.draining:
            return Health("draining", "The server is shutting down.")
        return Health(self._state, self._message)

    def queue_depth(self) -> QueueDepth:
        """Return the numbers of requests at the upstream and of requests that wait here."""
        return QueueDepth(self._semaphore.held, self._semaphore.waiting)

    def admit(
        self, endpoint: str, request_id: str, body: bytes, without_options: Callable[[bytes], bytes] | None = None
    ) -> UpstreamRequest:
        """Give a request a place in the queue and return it. Raises `QueueFull` or `ShuttingDown`.

        ``without_options`` is for a ``body`` with ``stream_options`` that the client has not sent: it returns the body
        to send to an upstream that refuses them. An upstream that could not be reached a moment ago is tried all the
        same.
        """
        request = UpstreamRequest(
            self._address, endpoint, request_id, body, self._admission, without_options, self._note_refused_options
        )
        self._admission.enter(request)
        return request

    def _note_refused_options(self) -> None:
        if not self.refuses_stream_options:
            self.refuses_stream_options = True
            logger.warning(
                "The engine behind this server refuses stream_options: logs and metrics lack the token counts of "
                "streams whose clients do not ask for them."
            )

    # --- watching ---

    def _watch(self) -> None:
        while not self._stopped.is_set():
            state, message, models = self._look()
            if (state, message) != (self._state, self._message):
                logger.log(logging.INFO if state == "ready" else logging.WARNING, "%s", message)
            if state == "ready":
                self.models = models
            else:
                # It may be another engine that comes back.
                self.refuses_stream_options = False
            self._state, self._message = state, message
            self._stopped.wait(CHECK_SECONDS if state == "ready" else RECHECK_SECONDS)

    def _look(self) -> tuple[State, str, list[dict[str, Any]]]:
        arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        exchange = Exchange(self._address, "/models", "health", None, arrivals.put)
        exchange.start()
        try:
            status, body = _complete(arrivals)
        except (queue.Empty, ConnectionError):
            return "failed", "The engine behind this server cannot be reached.", []
        finally:
            exchange.cancel()
        if status in (401, 403):
            return "failed", "The engine behind this server refuses this server's key (GLM_UPSTREAM_KEY).", []
        models = _entries(body) if status == 200 else []
        if not models:
            hint = " Does GLM_UPSTREAM_URL end where /models comes after it, mostly in /v1?" if status == 404 else ""
            return "failed", f"The engine behind this server does not list its models (status {status}).{hint}", []
        return "ready", "The engine behind this server is ready.", models


def _complete(arrivals: queue.SimpleQueue[Arrival]) -> tuple[int, bytes]:
    """Return status and body of an answer. Raises `queue.Empty` after `CHECK_TIMEOUT`, and `ConnectionError`."""
    deadline = time.monotonic() + CHECK_TIMEOUT
    status, body = 0, bytearray()
    while True:
        arrival = arrivals.get(timeout=max(0.0, deadline - time.monotonic()))
        match arrival:
            case Head():
                status = arrival.status
            case bytes():
                body += arrival
                if len(body) > LARGEST_LIST:
                    raise ConnectionError
            case End():
                return status, bytes(body)
            case Broken():
                raise ConnectionError


def _entries(body: bytes) -> list[dict[str, Any]]:
    """Return the model objects in ``body``; none if it is not a list of models."""
    try:
        listed = read_object(body)["data"]
        return [entry for entry in listed if isinstance(entry, dict) and _is_name(entry.get("id"))]
    except (ValueError, KeyError, TypeError):
        return []


def _is_name(id: object) -> bool:
    return isinstance(id, str) and as_unicode(id) == id
