"""Show model objects in the shape of the API whose client asks: Anthropic's clients send ``anthropic-version``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response, jsonify, request

# The last second of the year 9999, from the epoch.
_LATEST = 253_402_300_799


def shown_list(entries: list[dict[str, Any]]) -> Response | dict[str, Any]:
    """Return the list of the model objects ``entries``."""
    if not _from_anthropics_client():
        return {"object": "list", "data": entries}
    ids = [entry["id"] for entry in entries] or [None]
    listed = {"data": list(map(_anthropics, entries)), "has_more": False, "first_id": ids[0], "last_id": ids[-1]}
    return jsonify(listed)


def shown_model(entry: dict[str, Any]) -> Response | dict[str, Any]:
    """Return the model object ``entry``."""
    return jsonify(_anthropics(entry)) if _from_anthropics_client() else entry


def _from_anthropics_client() -> bool:
    return "anthropic-version" in request.headers


def _anthropics(entry: dict[str, Any]) -> dict[str, Any]:
    # An upstream may tell any number.
    created = datetime.fromtimestamp(max(0, min(entry["created"], _LATEST)), UTC)
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": entry["id"],
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
