"""The ids of the served model, and the facts about it."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from typing import Any

from glm_api.backend.errors import ModelLoading
from glm_api.context import pipeline, settings
from glm_api.errors import ApiError
from glm_api.pipeline.model_info import ModelInfo

# The model files tell no date; clients want one. Seconds since the epoch.
CREATED = int(time.time())


def served_model(requested: str | None) -> str:
    """The id that answers bear, whatever name was asked for. Raises `ApiError` (404) where names are strict."""
    if settings.strict_model and requested is not None and requested not in ids():
        raise unknown(requested)
    return settings.model_name


def ids() -> tuple[str, ...]:
    """The model's id, then its aliases."""
    return tuple(dict.fromkeys((settings.model_name, *settings.model_aliases)))


def entry(id: str) -> dict[str, Any]:
    """The model object of ``id``. Raises `ApiError` (404)."""
    if id not in ids():
        raise unknown(id)
    model = {"id": id, "object": "model", "created": CREATED, "owned_by": "glm"}
    try:
        info = pipeline.model
    except ModelLoading:
        return model
    meta = {
        "family": info.family,
        "n_ctx": info.context_length,
        "n_vocab": info.vocabulary_size,
        "size": info.model_bytes,
        "supports_tools": info.supports_tools,
        "supports_images": info.supports_images,
    }
    return {**model, "meta": meta}


def unknown(id: str) -> ApiError:
    """404 for a model that is not served."""
    return ApiError(
        404,
        f"The model {id[:200]!r} does not exist. This server has {' and '.join(map(repr, ids()))}.",
        param="model",
        code="model_not_found",
    )


def fingerprint() -> str:
    """Return what OpenAI calls the system fingerprint: it changes when the model does. Raises `ModelLoading`."""
    return _fingerprint(settings.model_name, pipeline.model)


# A model is loaded once for many requests.
@lru_cache(maxsize=1)
def _fingerprint(name: str, model: ModelInfo) -> str:
    return "fp_" + hashlib.sha256(repr((name, model)).encode()).hexdigest()[:12]
