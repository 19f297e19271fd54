"""Deadlines of a request: for its wait in the queue, and for its whole duration."""

from __future__ import annotations

import time

from glm_api.backend.errors import DeadlineExceeded


class Deadlines:
    """The deadlines of one request, from now on. Seconds."""

    def __init__(self, queue_timeout: float, request_timeout: float) -> None:
        self.created = time.monotonic()
        self._queue_timeout = queue_timeout
        self._request_timeout = request_timeout

    def left(self, waiting: bool) -> float:
        """Return the seconds until the request has waited or run too long; 0 or less if it has."""
        timeout = min(self._queue_timeout, self._request_timeout) if waiting else self._request_timeout
        return timeout - (time.monotonic() - self.created)

    def exceeded(self, waiting: bool) -> DeadlineExceeded:
        """Return the error for a request that has no time left."""
        if waiting and self._queue_timeout < self._request_timeout:
            return DeadlineExceeded(
                f"The request waited {self._queue_timeout:g} seconds for the model and others are still before it. "
                "Try again later."
            )
        return DeadlineExceeded(
            f"The answer took longer than the {self._request_timeout:g} seconds that this server allows. "
            "Ask for fewer tokens (max_tokens), or send a shorter prompt."
        )
