"""How long a request may wait for its turn, and how long it may take in all."""

from __future__ import annotations

import time


class Deadlines:
    """The deadlines of one request, from now on. Seconds."""

    def __init__(self, queue_timeout: float, request_timeout: float) -> None:
        self.created = time.monotonic()
        self._queue_timeout = queue_timeout
        self._request_timeout = request_timeout

    def left(self, waiting: bool) -> tuple[float, str]:
        """Seconds until the request has waited or run too long, and what to say then."""
        waited = time.monotonic() - self.created
        if waiting and self._queue_timeout < self._request_timeout:
            return self._queue_timeout - waited, (
                f"The request waited {self._queue_timeout:g} seconds for the model and others are still before it. "
                "Try again later."
            )
        return self._request_timeout - waited, (
            f"The answer took longer than the {self._request_timeout:g} seconds that this server allows. "
            "Ask for fewer tokens (max_tokens), or send a shorter prompt."
        )
