"""Why llama.cpp does not load a model is told in one line."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from glm_api.pipeline.worker.llama_cpp.server import ServerSettings, _complete, _reason

SETTINGS = ServerSettings(Path("/models/x/glm.gguf"), 64, 1, 1, 16, projector="/models/x/mmproj.gguf")
PREFIX = "0.00.004.570 E"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            f"{PREFIX} llama_model_load: error loading model: tensor 'x' data is not within the file bounds\n",
            "tensor 'x' data is not within the file bounds",
        ),
        (
            f"{PREFIX} llama_model_load: error loading model: unknown model architecture: 'glm9'\n"
            f"{PREFIX} llama_model_load: error loading model: llama_model_loader: failed to load model from "
            "/models/x/glm.gguf\n",
            "unknown model architecture: 'glm9'",
        ),
        (
            f"{PREFIX} gguf_init_from_reader: failed to read magic\n"
            f"{PREFIX} llama_model_load: error loading model: failed to load model from /models/x/glm.gguf\n",
            "failed to read magic",
        ),
        (
            f"{PREFIX} mtmd_init_from_file: error: Failed to load CLIP model from /models/x/mmproj.gguf\n",
            "Failed to load CLIP model from mmproj.gguf",
        ),
        ("something else\n", "something else"),
        ("", "it gives no reason"),
    ],
)
def test_the_reason_is_one_line_without_folders(output: str, reason: str) -> None:
    assert _reason(output, SETTINGS) == reason


def test_what_llama_cpp_prints_after_the_failure_is_waited_for() -> None:
    first = f"{PREFIX} a\n"
    output = Mock(Path)
    output.read_text.side_effect = ["", "", first, first + "b\n", first + "b\n"]
    assert _complete(output) == first + "b\n"
