"""Merge repeated slashes in paths: ``//v1//models`` is ``/v1/models``.

They come from base URLs that end in a slash. werkzeug would redirect, to the host in the ``Host`` header, and many
clients lose the body of a POST at a redirect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def register(app: Flask) -> None:
    """Merge repeated slashes before ``app`` reads the path."""
    answer = app.wsgi_app

    def merged(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "//" in environ["PATH_INFO"]:
            environ["PATH_INFO"] = re.sub("/+", "/", environ["PATH_INFO"])
        return answer(environ, start_response)

    app.wsgi_app = merged  # type: ignore[method-assign]
