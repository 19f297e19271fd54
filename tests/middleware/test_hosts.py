"""The ``Host`` header: on loopback without keys only localhost's names, elsewhere any, unless names are listed."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.support.client import MakeApp

EVIL = "evil.example"


def status(client: FlaskClient, host: str, path: str = "/v1/models") -> int:
    with client.get(path, headers={"Host": host}) as response:
        return int(response.status_code)


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "127.0.0.2:80", "localhost:8000", "[::1]:8000"])
def test_on_loopback_without_keys_another_name_is_refused(make_app: MakeApp, bind: str) -> None:
    client = make_app(bind=bind).test_client()
    assert status(client, EVIL) == 403
    assert status(client, "localhost:1") == 200


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "192.0.2.1:8000", "unix:/run/glm.sock"])
def test_where_no_browser_of_this_machine_alone_comes_every_name_is_answered(make_app: MakeApp, bind: str) -> None:
    assert status(make_app(bind=bind).test_client(), EVIL) == 200


def test_where_keys_are_asked_for_every_name_is_answered(make_app: MakeApp) -> None:
    # 401: a page does not know the key.
    assert status(make_app(api_keys=("sk-one",)).test_client(), EVIL) == 401


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "0.0.0.0:8000", "unix:/run/glm.sock"])
def test_names_that_are_listed_are_answered_beside_localhost(make_app: MakeApp, bind: str) -> None:
    client = make_app(bind=bind, allowed_hosts=("glm.example.org", "192.0.2.1")).test_client()
    for host in ("glm.example.org", "GLM.example.org:443", "glm.example.org.", "192.0.2.1:80", "127.0.0.1", "[::1]"):
        assert status(client, host) == 200, host
    for host in (EVIL, "glm.example.org.evil.example", "example.org", "192.0.2.2"):
        assert status(client, host) == 403, host


def test_a_star_lets_every_name_in(make_app: MakeApp) -> None:
    assert status(make_app(allowed_hosts=("*",)).test_client(), EVIL) == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "notlocalhost",
        "localhost:evil",
        "localhost, evil.example",
        "",
        "0.0.0.0",
        "[::2]",
    ],
)
def test_what_only_looks_like_localhost_is_refused(client: FlaskClient, host: str) -> None:
    assert status(client, host) in (400, 403)


@pytest.mark.parametrize("path", ["/health", "/livez"])
def test_probes_are_answered_under_any_name(client: FlaskClient, path: str) -> None:
    assert status(client, EVIL, path) == 200


def test_pages_are_not(client: FlaskClient) -> None:
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/nowhere"):
        assert status(client, EVIL, path) == 403
