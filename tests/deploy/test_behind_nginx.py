"""The real server behind a real nginx: which host names it answers, and who may open its socket."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.nginx import MakeProxy, StartNginx
from tests.support.processes import free_port
from tests.support.server import Serve

MODELS = "/v1/models"
PUBLIC = {"Host": "glm.example.org"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for sockets with the unit's mode, for user and group. pytest's folders are for the user only."""
    with tempfile.TemporaryDirectory(prefix="glm-api-") as name:
        os.chmod(name, 0o750)
        yield Path(name)


def address(url: str) -> str:
    return url.removeprefix("http://")


def test_behind_the_shipped_nginx_a_unix_socket_answers_every_host_name(
    serve: Serve, make_proxy: MakeProxy, folder: Path
) -> None:
    server = serve(bind=f"unix:{folder}/api.sock")
    proxy = make_proxy(f"unix:{server.socket}")
    for headers in ({}, PUBLIC):
        assert proxy.get(MODELS, headers=headers).status_code == 200
    response = proxy.get(f"{proxy.base_url}/v1//models", headers=PUBLIC)
    assert (response.status_code, response.history) == (200, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nginx as another user")
def test_another_user_cannot_open_the_socket(serve: Serve, make_proxy: MakeProxy, folder: Path) -> None:
    server = serve(bind=f"unix:{folder}/api.sock")
    os.chmod(folder, 0o755)
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    assert make_proxy(f"unix:{server.socket}", user=f"nobody {group}").get(MODELS).status_code == 503


def test_behind_the_shipped_nginx_loopback_answers_allowed_host_names_only(serve: Serve, make_proxy: MakeProxy) -> None:
    refused = make_proxy(address(serve().url)).get(MODELS, headers=PUBLIC)
    assert refused.status_code == 403
    assert "GLM_ALLOWED_HOSTS=glm.example.org " in refused.json()["error"]["message"]
    proxy = make_proxy(address(serve(allowed_hosts="glm.example.org").url))
    assert proxy.get(MODELS, headers=PUBLIC).status_code == 200
    assert proxy.get(MODELS, headers={"Host": "evil.example"}).status_code == 403


def test_a_plain_proxy_pass_needs_no_setting(serve: Serve, start_nginx: StartNginx) -> None:
    port = free_port()
    start_nginx(f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {serve().url}; }} }}", port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=PUBLIC) as proxy:
        assert proxy.get(MODELS).status_code == 200
