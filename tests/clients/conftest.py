"""The clients that people have, and the live server that they talk to."""

from __future__ import annotations

from tests.server.conftest import demo, serve

__all__ = ["demo", "serve"]
