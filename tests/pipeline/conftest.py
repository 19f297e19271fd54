"""Pipelines with real children."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glm_api.backend.base import State
from glm_api.backend.semaphore import FairSemaphore
from glm_api.pipeline.cpus import child_environment
from glm_api.pipeline.frames import Event, Text
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.pipeline import Pipeline, PipelineSettings
from tests.support.processes import PATIENCE, until

MakePipeline = Callable[..., Pipeline]


def await_state(pipeline: Pipeline, state: State) -> None:
    until(lambda: pipeline.health().state == state)


def collect(generation: Generation) -> list[Event]:
    return [event for events in generation.events() for event in events]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


@pytest.fixture
def make_pipeline() -> Iterator[MakePipeline]:
    """``make_pipeline(model_path, **settings)``: a started pipeline; ``ready=False`` does not wait for it."""
    made: list[Pipeline] = []

    def make(model: Path, *, ready: bool = True, **settings: Any) -> Pipeline:
        pipeline = Pipeline(FairSemaphore(Generation.take_turn))
        pipeline.configure(
            PipelineSettings(
                **{
                    "model": str(model),
                    "max_length": None,
                    "cache_slots": 2,
                    "prefill": "auto",
                    "threads": 1,
                    "queue_size": 64,
                    "queue_timeout": PATIENCE,
                    "request_timeout": PATIENCE,
                    "environment": child_environment(),
                    **settings,
                }
            )
        )
        made.append(pipeline)
        pipeline.start()
        if ready:
            await_state(pipeline, "ready")
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop()
        pipeline.join()
