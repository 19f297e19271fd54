"""Pages for people: the chat page at `/` and the API reference at `/docs`.

The pages load everything from this server, and use relative URLs only, so they work under a path prefix too.
"""

from __future__ import annotations

from .routes import blueprint

__all__ = ["blueprint"]
