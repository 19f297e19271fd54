"""What is checked before llama.cpp loads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from glm_api.pipeline.frames import LoadModel
from glm_api.pipeline.worker.llama_cpp import services
from glm_api.pipeline.worker.service import LoadError
from tests.support.gguf import models


def test_a_model_that_the_memory_cannot_hold_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.write_model(tmp_path / "large.gguf", models.GLM_4_0414)
    # llama.cpp is not asked in this process, where chatglm-cpp's part of the same names may be loaded.
    monkeypatch.setattr(services, "has_gpu", lambda: False)
    monkeypatch.setattr(services, "available_bytes", lambda: model.stat().st_size - 1)
    request = LoadModel(str(model), None, 1, "auto", 1, engine="llama-cpp")
    with pytest.raises(LoadError, match=r"large\.gguf needs .* GiB of memory.*Choose a smaller model"):
        services.pipeline_service(cast("Any", None), request)
