"""The errors of a backend. ``glm_api.errors`` maps each of them to a status and an envelope.

Messages are written for the person who sent the request: they say what to do and leak no internals.
"""

from __future__ import annotations

LONGEST_RETRY_AFTER = 120.0


class BackendError(Exception):
    """Base of the errors with which a backend refuses a request or fails at it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PromptError(BackendError):
    """The prompt is not valid for this model. ``param`` is the dotted path of the faulty parameter, or None."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def at(self, param: str | None) -> PromptError:
        """Return the same error with another ``param``: the endpoint has another name for the faulty parameter."""
        return PromptError(self.message, param)


class ContextLengthExceeded(PromptError):
    """The prompt alone fills the context. Counts are in tokens; ``prompt_tokens`` include ``image_tokens``.

    ``param`` is the parameter that holds the prompt. ``at_least``: the prompt was too long to be counted.
    """

    def __init__(
        self,
        prompt_tokens: int,
        context_length: int,
        image_tokens: int = 0,
        *,
        param: str | None = "messages",
        at_least: bool = False,
    ) -> None:
        count = f"at least {prompt_tokens}" if at_least else f"{prompt_tokens}"
        image = f", {image_tokens} of them for the image" if image_tokens else ""
        held = param or "prompt"
        super().__init__(
            f"This model's maximum context length is {context_length} tokens. However, your {held} resulted in "
            f"{count} tokens{image}. Please reduce the length of the {held}.",
            param,
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
        self._image_tokens = image_tokens
        self._at_least = at_least

    def at(self, param: str | None) -> ContextLengthExceeded:
        """Return the same error for an endpoint whose parameter ``param`` holds the prompt."""
        return ContextLengthExceeded(
            self.prompt_tokens, self.context_length, self._image_tokens, param=param, at_least=self._at_least
        )


class Busy(BackendError):
    """Try again later. ``retry_after`` is in whole seconds, at least 1."""

    def __init__(self, message: str, retry_after: float = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, round(retry_after))


class QueueFull(Busy):
    """The queue holds as many requests as it may."""


class ModelLoading(Busy):
    """The model is not ready yet, or could not be loaded."""


class ShuttingDown(Busy):
    """The server is shutting down: it finishes admitted requests and refuses new ones."""


class Interrupted(BackendError):
    """The server shut down while it worked on this request. With `ShuttingDown`, the work had not begun."""


class DeadlineExceeded(BackendError):
    """The request waited or ran longer than the settings allow."""


class EngineError(BackendError):
    """The pipeline process died or failed while it worked on this request."""


class ClientGone(BackendError):
    """The client closed the connection; there is nobody to tell."""


def shutting_down(begun: bool) -> BackendError:
    """Return the error for a request that the end of the server ends; ``begun``: the work on it had begun."""
    if begun:
        return Interrupted("The server shut down while it worked on this request. Try again in a few seconds.")
    return ShuttingDown("The server is shutting down. Try again in a few seconds.", retry_after=5)


def queue_full(waiting: int, seconds: float) -> QueueFull:
    """Return the error for a request that finds the queue full: ``waiting`` others wait, for about ``seconds``."""
    requests = "1 request waits" if waiting == 1 else f"{waiting} requests wait"
    return QueueFull(
        f"The model is busy, and the queue is full: {requests} already. Try again later.",
        retry_after=min(seconds, LONGEST_RETRY_AFTER),
    )
