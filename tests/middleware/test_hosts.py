"""The ``Host`` header: on loopback without keys it must be localhost's, else any name, unless names are listed."""

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
def test_every_name_is_answered_if_the_server_does_not_listen_on_loopback(make_app: MakeApp, bind: str) -> None:
    assert status(make_app(bind=bind).test_client(), EVIL) == 200


def test_no_name_is_refused_if_keys_are_required(make_app: MakeApp) -> None:
    # 401: a page does not know the key.
    assert status(make_app(api_keys=("sk-one",)).test_client(), EVIL) == 401


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "0.0.0.0:8000", "unix:/run/glm.sock"])
def test_listed_names_are_answered_and_localhost_too(make_app: MakeApp, bind: str) -> None:
    client = make_app(bind=bind, allowed_hosts=("glm.example.org", "192.0.2.1")).test_client()
    for host in ("glm.example.org", "GLM.example.org:443", "glm.example.org.", "192.0.2.1:80", "127.0.0.1", "[::1]"):
        assert status(client, host) == 200, host
    for host in (EVIL, "glm.example.org.evil.example", "example.org", "192.0.2.2"):
        assert status(client, host) == 403, host


def test_a_star_allows_every_name(make_app: MakeApp) -> None:
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
def test_names_that_resemble_localhost_are_refused(client: FlaskClient, host: str) -> None:
    assert status(client, host) in (400, 403)


@pytest.mark.parametrize("path", ["/health", "/livez"])
def test_probes_are_answered_under_any_name(client: FlaskClient, path: str) -> None:
    assert status(client, EVIL, path) == 200


def test_pages_are_refused_under_other_names(client: FlaskClient) -> None:
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/nowhere"):
        assert status(client, EVIL, path) == 403
