"""Fixtures for model files: tiny ones, and the demo model."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from glm_api.pipeline import formats
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from glm_api.pipeline.worker.chatglm_cpp.tokenizer import PipelineTokenizer
from glm_api.pipeline.worker.model_file import inspect
from tests.support.model_files.writer import Family, TinyModel, write_model
from tests.support.processes import ROOT

# The threads of models that are opened in this process would spin against those of the servers.
bridge.set_threads(1)

DEMO_MODEL = ROOT / "demo" / "chatglm3-demo.q8_0.bin"


class OpenModel(NamedTuple):
    """A model file, opened by chatglm_cpp."""

    path: Path
    pipeline: _C.Pipeline
    tokenizer: PipelineTokenizer
    format: Format


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``model_file(family, **fields of TinyModel)`` returns the path of such a file, written once a session."""
    folder = tmp_path_factory.mktemp("models")
    written: dict[TinyModel, Path] = {}

    def make(family: Family, **fields: Any) -> Path:
        model = TinyModel(family, **fields)
        if model not in written:
            written[model] = write_model(folder / f"{family}-{len(written)}.bin", model)
        return written[model]

    return make


@pytest.fixture(scope="module")
def open_model(model_file: Callable[..., Path]) -> Iterator[Callable[..., OpenModel]]:
    """``open_model(family, **fields of TinyModel)`` opens the same file in this process, once a module.

    Not once a session: ggml has room for 64 contexts in a process, an open model takes three, and one more crashes it.
    """
    opened: dict[Path, OpenModel] = {}

    def make(family: Family, **fields: Any) -> OpenModel:
        path = model_file(family, **fields)
        if path not in opened:
            pipeline = _C.Pipeline(str(path), -1)
            tokenizer = PipelineTokenizer(pipeline, inspect(path))
            format = formats.format_for(pipeline.model.config.model_type_name, tokenizer)
            opened[path] = OpenModel(path, pipeline, tokenizer, format)
        return opened[path]

    yield make
    # Hypothesis keeps the arguments of its last test; and a tokenizer and its grammars refer to each other.
    opened.clear()
    gc.collect()


@pytest.fixture(scope="session")
def open_demo() -> OpenModel:
    """The demo model, opened in this process."""
    pipeline = _C.Pipeline(str(DEMO_MODEL), -1)
    tokenizer = PipelineTokenizer(pipeline, inspect(DEMO_MODEL))
    return OpenModel(DEMO_MODEL, pipeline, tokenizer, formats.format_for("ChatGLM3", tokenizer))
