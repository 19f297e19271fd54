"""Read the JSON objects that the upstream sends."""

from __future__ import annotations

import json
from typing import Any


def read_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in ``content``. Raises ValueError if it is none, or is nested too deeply.

    Bytes that are not UTF-8 become U+FFFD, as in browsers. A text may hold half of a surrogate pair.
    """
    try:
        document = json.loads(content.decode("utf-8-sig", errors="replace"))
    except RecursionError:
        raise ValueError("The JSON is nested too deeply.") from None
    if not isinstance(document, dict):
        raise ValueError("The JSON is not an object.")
    return document


def as_unicode(text: str) -> str:
    """Return ``text`` with ``?`` for each half of a surrogate pair, which no UTF-8 can spell."""
    return text.encode(errors="replace").decode()
