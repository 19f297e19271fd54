"""What stands behind the front, whichever ``GLM_BACKEND`` it is: the pipeline here, or an engine elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from config import Settings
from glm_api.pipeline import pipeline
from glm_api.pipeline.cpus import child_environment, usable_cpus
from glm_api.pipeline.facade import PipelineSettings
from glm_api.pipeline.health import Health, Load
from glm_api.pipeline.process import Cause
from glm_api.upstream.engine import Engine


class Backend(Protocol):
    """`glm_api.pipeline.facade.Pipeline` or `glm_api.upstream.engine.Engine`."""

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


def backend_of(settings: Settings) -> Backend:
    """The backend that ``settings`` ask for, set up; whoever serves starts it."""
    if settings.backend == "openai":
        return Engine(settings)
    pipeline.configure(pipeline_settings(settings))
    return pipeline


def pipeline_settings(settings: Settings) -> PipelineSettings:
    """What the pipeline reads of the settings."""
    return PipelineSettings(
        model=str(settings.model),
        max_length=settings.max_length,
        cache_slots=settings.cache_slots,
        prefill=settings.prefill,
        queue_size=settings.queue_size,
        queue_timeout=settings.queue_timeout,
        request_timeout=settings.request_timeout,
        environment=child_environment(settings.num_threads or usable_cpus()),
    )
