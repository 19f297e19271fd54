"""The pages of a list of items, as OpenAI's clients ask for them: ``order``, ``after``, ``limit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glm_api.errors import invalid

MAX_LIMIT = 100
DEFAULT_LIMIT = 20

QUERY = [
    {
        "name": "order",
        "in": "query",
        "schema": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
        "description": "`desc`: the latest item comes first.",
    },
    {
        "name": "after",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Id of the item after which the list begins.",
    },
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "description": "Maximum number of items.",
    },
]


def page_of(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Return the page of ``items``, which are in order, for which the ``query`` asks. Raises `ApiError`."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("Invalid 'order': must be 'asc' or 'desc'.", "order")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= MAX_LIMIT):
        raise invalid(f"Invalid 'limit': must be a whole number from 1 to {MAX_LIMIT}.", "limit")
    if order == "desc":
        items = items[::-1]
    after = query.get("after")
    if after is not None:
        place = next((index for index, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise invalid("Invalid 'after': must be the id of one of the items.", "after")
        items = items[place + 1 :]
    page = items[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    }
