"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from chatglm_cpp import _C

from glm_api.pipeline import formats
from glm_api.pipeline.worker.loading import reserve_graph_memory
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.tokenizer import PipelineTokenizer
from tests.listening import listener
from tests.models.fixtures import OpenModel, model_file, open_model
from tests.web import app, client, fake, make_app, sdk, shared_app

__all__ = ["app", "client", "fake", "listener", "make_app", "model_file", "open_model", "sdk", "shared_app"]

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "chatglm3-demo.q8_0.bin"


@pytest.fixture(scope="session")
def open_demo() -> OpenModel:
    """The bundled demo model, opened in this process."""
    pipeline = _C.Pipeline(str(DEMO_MODEL), -1)
    reserve_graph_memory(pipeline, pipeline.model.config.max_length)
    tokenizer = PipelineTokenizer(pipeline, inspect(DEMO_MODEL))
    return OpenModel(DEMO_MODEL, pipeline, tokenizer, formats.load("ChatGLM3", tokenizer))
