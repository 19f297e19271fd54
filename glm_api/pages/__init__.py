"""Pages for people: the chat page at `/` and the API reference at `/docs`.

Every byte comes from this server. The pages know the API only by relative addresses, so they work under a path
prefix too.
"""

from __future__ import annotations

from .routes import blueprint

__all__ = ["blueprint"]
