"""The HTTP side of the pages: types, caching, policies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

import glm_api.pages
from glm_api.pages import blueprint

STATIC = Path(glm_api.pages.__file__).parent / "static"


Get = Callable[..., TestResponse]


@pytest.fixture
def get() -> Get:
    app = Flask(__name__)
    app.register_blueprint(blueprint)
    # A buffered response reads the file to its end and closes it, like a server.
    return partial(app.test_client().get, buffered=True)


def policy_of(get: Get, path: str) -> dict[str, str]:
    directives = get(path).headers["Content-Security-Policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/vendor/purify.es.mjs", "text/javascript; charset=utf-8"),
        ("/assets/chat.css", "text/css; charset=utf-8"),
        ("/assets/icons.svg", "image/svg+xml; charset=utf-8"),
        ("/assets/swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/assets/swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml; charset=utf-8"),
        ("/favicon.ico", "image/svg+xml; charset=utf-8"),
    ],
)
def test_each_file_has_its_type_and_no_sniffing(get: Get, path: str, media_type: str) -> None:
    response = get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == media_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/docs", "/assets/app.js", "/assets/swagger-ui/swagger-ui.css"])
def test_a_browser_asks_each_time_and_gets_only_changed_files(get: Get, path: str) -> None:
    first = get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]


def test_the_chat_page_allows_nothing_but_its_own_files(get: Get) -> None:
    policy = policy_of(get, "/")
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert not any("unsafe" in sources for sources in policy.values())


def test_the_reference_runs_no_script_but_the_servers(get: Get) -> None:
    assert policy_of(get, "/docs")["script-src"] == "'self'"


@pytest.mark.parametrize("name", ["chat.html", "docs.html"])
def test_pages_have_no_inline_code_and_only_relative_addresses(name: str) -> None:
    html = (STATIC / name).read_text()
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)
    addresses = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert addresses
    assert not [address for address in addresses if address.startswith(("/", "http:", "https:", "//"))]


def test_the_reference_with_a_slash_redirects_under_any_prefix(get: Get) -> None:
    response = get("/docs/")
    assert response.status_code == 302
    assert response.headers["Location"] == "../docs"


@pytest.mark.parametrize(
    "path", ["/assets/none.js", "/assets/../routes.py", "/assets/%2e%2e/routes.py", "/assets/swagger-ui/VERSION"]
)
def test_nothing_else_is_served(get: Get, path: str) -> None:
    assert get(path).status_code == 404


def test_vendored_files_are_the_published_ones() -> None:
    notes = (STATIC / "vendor" / "README.md").read_text()
    recorded = dict(re.findall(r"^\| `([\w.]+)` .*`(\w{64})` \|$", notes, re.MULTILINE))
    scripts = [path for path in (STATIC / "vendor").iterdir() if path.suffix in (".js", ".mjs")]
    assert recorded == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in scripts}
