"""What an engine offers to the program of the children."""

from __future__ import annotations

from typing import Protocol

from glm_api.pipeline.frames import LoadModel, ToPipeline, ToTokenizer
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.worker.connection import Connection


class LoadError(Exception):
    """The model cannot be served. The message says in one line why, and what to do."""


class Service(Protocol):
    """What a child does once its model is loaded."""

    def serve(self) -> None:
        """Answer the web process until it goes away. Raises `ParentGone` and `FrameError`."""


class Engine(Protocol):
    """The module ``services`` of an engine."""

    def pipeline_service(self, connection: Connection[ToPipeline], request: LoadModel) -> tuple[ModelInfo, Service]:
        """Load the model and return what answers prompts. Raises `LoadError`."""

    def tokenizer_service(self, connection: Connection[ToTokenizer], request: LoadModel) -> tuple[ModelInfo, Service]:
        """Load the model and return what answers questions about tokens. Raises `LoadError`."""
