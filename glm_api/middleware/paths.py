"""Doubled slashes in paths: ``//v1//models`` is ``/v1/models``.

They come from base URLs that end in a slash. werkzeug would redirect, which loses the body of a POST with many clients,
and leads to wherever the ``Host`` header says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def register(app: Flask) -> None:
    """Merge slashes before ``app`` looks at the path."""
    answer = app.wsgi_app

    def merged(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "//" in environ["PATH_INFO"]:
            environ["PATH_INFO"] = re.sub("/+", "/", environ["PATH_INFO"])
        return answer(environ, start_response)

    app.wsgi_app = merged  # type: ignore[method-assign]
