"""Bring the path of each request into its canonical form: ``//models/`` is ``/v1/models``.

werkzeug would redirect some of them, to the host in the ``Host`` header, and many clients lose the body of a POST at a
redirect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Request

from glm_api.server.paths import canonical

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# In the WSGI environment of a request whose path was changed: the path that the client sent.
_SENT_PATH = "glm_api.sent_path"


def register(app: Flask) -> None:
    """Change the path before ``app`` reads it."""
    answer = app.wsgi_app

    def changed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        sent = environ["PATH_INFO"]
        path = canonical(sent)
        if path != sent:
            environ["PATH_INFO"], environ[_SENT_PATH] = path, sent
        return answer(environ, start_response)

    app.wsgi_app = changed  # type: ignore[method-assign]


def sent_path(request: Request) -> str:
    """Return the path of ``request`` as the client sent it."""
    sent: str | None = request.environ.get(_SENT_PATH)
    # WSGI has each byte as a character.
    return request.path if sent is None else sent.encode("latin-1").decode(errors="replace")
