"""Routes of the pages and of their assets."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePath

from flask import Blueprint, Response, abort, redirect, request, send_from_directory
from werkzeug.wrappers import Response as BaseResponse

from .policy import CHAT_POLICY, DOCS_POLICY, header

blueprint = Blueprint("pages", __name__)

STATIC = Path(__file__).parent / "static"

# Only the assets of flask-swagger-ui are used: its blueprint has an inline script, which the policy forbids.
SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"
SWAGGER_UI_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})

# Not left to `mimetypes`, which reads the operating system's tables: browsers refuse a module with a wrong type.
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}


def send_asset(folder: Path, name: str) -> Response:
    """Return a file that browsers cache but revalidate: an update shows at once, an unchanged file costs a 304."""
    media_type = MEDIA_TYPES.get(PurePath(name).suffix, "text/plain")
    response = send_from_directory(folder, name, mimetype=media_type)
    response.cache_control.clear()
    response.cache_control.no_cache = True
    return response


@blueprint.after_request
def harden(response: Response) -> Response:
    """Add headers that keep the text of a model from doing harm."""
    policy = DOCS_POLICY if request.endpoint == f"{blueprint.name}.docs" else CHAT_POLICY
    response.headers["Content-Security-Policy"] = header(policy)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


@blueprint.get("/")
def chat() -> Response:
    """Return the chat page."""
    return send_asset(STATIC, "chat.html")


@blueprint.get("/docs")
def docs() -> Response:
    """Return the API reference, which Swagger UI renders from `/openapi.json`."""
    return send_asset(STATIC, "docs.html")


@blueprint.get("/docs/")
def docs_with_slash() -> BaseResponse:
    """Redirect to a relative URL, because the server does not know the path prefix that a proxy removed."""
    return redirect("../docs")


@blueprint.get("/assets/<path:name>")
def asset(name: str) -> Response:
    """Return a script, a style sheet or an image of the pages."""
    return send_asset(STATIC, name)


@blueprint.get("/assets/swagger-ui/<name>")
def swagger_ui_asset(name: str) -> Response:
    """Return a file of the installed Swagger UI."""
    if name not in SWAGGER_UI_ASSETS:
        abort(404)
    return send_asset(SWAGGER_UI, name)


@blueprint.get("/favicon.svg")
@blueprint.get("/favicon.ico")
def favicon() -> Response:
    """Return the icon. Browsers go by the media type, so ``.ico`` may be the same SVG."""
    return send_from_directory(STATIC, "favicon.svg", mimetype=MEDIA_TYPES[".svg"], max_age=86400)
