"""The interface of a backend: the pipeline in this server, or the upstream. ``GLM_BACKEND`` chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["loading", "ready", "restarting", "failed", "draining"]
Cause = Literal["died", "hung", "load_failed", "stopped"]
ChildRole = Literal["pipeline", "tokenizer"]


@dataclass(frozen=True, slots=True)
class Health:
    """Backend state, as reported by ``/health`` and the metrics. ``message`` may be shown to anybody."""

    state: State
    message: str


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The numbers of running and of waiting requests."""

    running: int
    waiting: int


class Backend(Protocol):
    """`glm_api.pipeline.pipeline.Pipeline` or `glm_api.upstream.client.UpstreamClient`."""

    def start(self) -> None:
        """Start the backend, without waiting until it is ready."""

    def drain(self) -> None:
        """Refuse new requests and go on with admitted ones. Must not block."""

    def stop(self) -> None:
        """Stop: running requests fail with `Interrupted`, waiting ones with `ShuttingDown`. Idempotent."""

    def health(self) -> Health:
        """Return the current state; never wait."""

    def queue_depth(self) -> QueueDepth:
        """Return the numbers of running and of waiting requests."""

    @property
    def restarts(self) -> Mapping[tuple[ChildRole, Cause], int]:
        """Restarts of the model's processes, by process and cause."""
