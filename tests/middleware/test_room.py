"""A request is refused if no connection is left for it; a probe never is."""

from __future__ import annotations

import pytest
from flask import Flask

from glm_api.server.connections import MONITORING_PATHS, Occupancy
from tests.support.client import CHAT, HELLO, MakeApp, error


@pytest.fixture
def full(make_app: MakeApp) -> Flask:
    """An application that answers one request more than it may."""
    app = make_app()
    occupancy: Occupancy = app.extensions["glm_occupancy"]
    occupancy.most, occupancy.requests = 10, 11
    return app


@pytest.mark.parametrize("path", ["/v1/models", "/", "/nothing"])
def test_one_request_too_many_gets_503_and_retry_after(full: Flask, path: str) -> None:
    response = full.test_client().get(path)
    assert (response.status_code, error(response)["code"]) == (503, "overloaded")
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", sorted(MONITORING_PATHS))
def test_probes_are_answered(full: Flask, path: str) -> None:
    assert full.test_client().get(path).status_code == 200


def test_the_last_request_for_which_there_is_room_is_answered(full: Flask) -> None:
    full.extensions["glm_occupancy"].requests = 10
    assert full.test_client().post(CHAT, json={"messages": HELLO}).status_code == 200
