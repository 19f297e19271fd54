"""Routes of the pages and of their assets."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePath

from flask import Blueprint, Response, abort, redirect, request, send_from_directory
from werkzeug.wrappers import Response as BaseResponse

from .policy import CHAT_POLICY, DOCS_POLICY, header

blueprint = Blueprint("pages", __name__)

STATIC = Path(__file__).parent / "static"

# flask-swagger-ui's own blueprint starts the page from an inline script, which the policy forbids: its assets will do.
SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"
SWAGGER_UI_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})

# Said here because `mimetypes` asks the operating system's tables, and browsers refuse a module with a wrong type.
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}


def send_asset(folder: Path, name: str) -> Response:
    """A file that browsers keep but ask about each time: an update shows at once, an unchanged file costs a 304."""
    media_type = MEDIA_TYPES.get(PurePath(name).suffix, "text/plain")
    response = send_from_directory(folder, name, mimetype=media_type)
    response.cache_control.clear()
    response.cache_control.no_cache = True
    return response


@blueprint.after_request
def harden(response: Response) -> Response:
    """Headers that keep whatever a model writes from doing harm."""
    policy = DOCS_POLICY if request.endpoint == f"{blueprint.name}.docs" else CHAT_POLICY
    response.headers["Content-Security-Policy"] = header(policy)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


@blueprint.get("/")
def chat() -> Response:
    """The chat page."""
    return send_asset(STATIC, "chat.html")


@blueprint.get("/docs")
def docs() -> Response:
    """The API reference, drawn by Swagger UI from `/openapi.json`."""
    return send_asset(STATIC, "docs.html")


@blueprint.get("/docs/")
def docs_with_slash() -> BaseResponse:
    """Relative, because the server does not know the path prefix that a proxy took off."""
    return redirect("../docs")


@blueprint.get("/assets/<path:name>")
def asset(name: str) -> Response:
    """A script, style sheet or image of the pages."""
    return send_asset(STATIC, name)


@blueprint.get("/assets/swagger-ui/<name>")
def swagger_ui_asset(name: str) -> Response:
    """A file of the installed Swagger UI."""
    if name not in SWAGGER_UI_ASSETS:
        abort(404)
    return send_asset(SWAGGER_UI, name)


@blueprint.get("/favicon.svg")
@blueprint.get("/favicon.ico")
def favicon() -> Response:
    """The icon; browsers go by the type, so the old name serves the same drawing."""
    return send_from_directory(STATIC, "favicon.svg", mimetype=MEDIA_TYPES[".svg"], max_age=86400)
