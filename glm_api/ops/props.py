"""Facts about the server and its tokens, in llama-server's shapes."""

from __future__ import annotations

from typing import Any

from glm_api.api.parameters import DEFAULT_MAX_TOKENS, DEFAULTS
from glm_api.context import pipeline, server_version, settings


def server_props() -> dict[str, Any]:
    """Return the model and the default parameters. Raises `ModelLoading`."""
    info = pipeline.model
    return {
        "model_alias": settings.model_name,
        "model_path": settings.model.name,
        "family": info.family,
        "total_slots": info.slots,
        "threads": pipeline.threads,
        "default_generation_settings": {
            "n_ctx": info.context_length,
            "temperature": DEFAULTS.temperature,
            "top_p": DEFAULTS.top_p,
            "top_k": DEFAULTS.top_k,
            "min_p": DEFAULTS.min_p,
            "repeat_penalty": DEFAULTS.repetition_penalty,
            "presence_penalty": DEFAULTS.presence_penalty,
            "frequency_penalty": DEFAULTS.frequency_penalty,
            "seed": DEFAULTS.seed,
            "min_tokens": DEFAULTS.min_tokens,
            "ignore_eos": DEFAULTS.ignore_eos,
            "n_predict": DEFAULT_MAX_TOKENS,
        },
        "modalities": {"vision": info.supports_images, "audio": False},
        "build_info": f"glm-api-server {server_version()}",
    }


def pieces(ids: list[int]) -> list[dict[str, Any]]:
    """Return each id with its text; the bytes of a character that several ids share show as U+FFFD."""
    return [{"id": id, "piece": piece} for id, piece in zip(ids, pipeline.pieces(ids), strict=True)]
