"""What stands behind the front, whichever ``GLM_BACKEND`` it is: the pipeline here, or an engine elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["loading", "ready", "restarting", "failed", "draining"]
Cause = Literal["died", "hung", "abandoned", "load_failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Health:
    """How a backend is doing, for ``/health`` and the metrics. ``message`` may be shown to anybody."""

    state: State
    message: str


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests are worked on, and how many wait for their turn."""

    running: int
    waiting: int


class Backend(Protocol):
    """`glm_api.pipeline.pipeline.Pipeline` or `glm_api.upstream.client.Engine`."""

    def start(self) -> None:
        """Get ready, without waiting for it."""

    def drain(self) -> None:
        """Take no new work; what is admitted already goes on. Must not block."""

    def stop(self) -> None:
        """End; what runs fails with `Interrupted`, what waits with `ShuttingDown`. Idempotent."""

    def health(self) -> Health:
        """The state now; never waits."""

    def load(self) -> Load:
        """How much there is to do."""

    @property
    def restarts(self) -> Mapping[Cause, int]:
        """Restarts of the pipeline process, by cause."""
