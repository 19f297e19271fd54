"""The upstream's models, under the names that clients use for them."""

from __future__ import annotations

from typing import Any

from glm_api.context import settings
from glm_api.errors import ApiError
from glm_api.upstream.context import upstream
from glm_api.upstream.documents import as_unicode


def chosen(requested: str | None) -> tuple[str | None, str | None]:
    """Return the model name for answers and the upstream's own name, for a request for ``requested``.

    Without a model map, names pass through. With one, an unknown name becomes its first entry. With
    ``GLM_STRICT_MODEL``, an unknown name is an `ApiError` (404) if any are known. (None, None): no model is known.
    """
    names = _names()
    if settings.strict_model and requested is not None and names and requested not in names:
        raise unknown(requested)
    if settings.upstream_models:
        mapped = requested if requested is not None and requested in names else settings.upstream_models[0][0]
        return mapped, names[mapped]
    shown = requested or next(iter(names), None)
    return shown, shown


def entries() -> list[dict[str, Any]]:
    """Return the model objects: in the order of the map, or without a map in the upstream's order."""
    return [entry(id) for id in _names()]


def entry(id: str) -> dict[str, Any]:
    """Return the model object of ``id``. Raises `ApiError` (404)."""
    names = _names()
    if id not in names:
        raise unknown(id)
    listed = next((model for model in upstream.models if model["id"] == names[id]), {})
    created, owner = listed.get("created"), listed.get("owned_by")
    return {
        "id": id,
        "object": "model",
        "created": created if isinstance(created, int) else 0,
        "owned_by": as_unicode(owner) if isinstance(owner, str) else "upstream",
    }


def unknown(id: str) -> ApiError:
    """Return the error (404) for a model that is not served."""
    there = " and ".join(map(repr, _names())) or "none at the moment"
    return ApiError(
        404,
        f"The model {id[:200]!r} does not exist. This server has {there[:2000]}.",
        param="model",
        code="model_not_found",
    )


def _names() -> dict[str, str]:
    """Return the upstream's name of each model, by the name that clients use."""
    return dict(settings.upstream_models) or {model["id"]: model["id"] for model in upstream.models}
