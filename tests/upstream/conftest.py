"""Fixtures: the application in front of a scripted upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from config import Settings
from glm_api import create_app
from glm_api.upstream.client import UpstreamClient
from tests.support.processes import until
from tests.support.upstream.relayed import MakeClient
from tests.support.upstream.scripted import ScriptedUpstream, scripted_upstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream that says what the test has written down."""
    with scripted_upstream() as scripted:
        yield scripted


@pytest.fixture
def make(upstream: ScriptedUpstream) -> Iterator[MakeClient]:
    """``make(**settings)``: a client of an application before the scripted upstream, which has been looked at."""
    backends: list[UpstreamClient] = []

    def made(**settings: Any) -> FlaskClient:
        settings = {"upstream_url": upstream.url, **settings}
        app = create_app(Settings(backend="openai", **settings))
        backends.append(app.extensions["glm_backend"])
        backends[-1].start()
        until(lambda: backends[-1].health().state != "loading")
        return app.test_client()

    yield made
    for backend in backends:
        backend.stop()


@pytest.fixture
def client(make: MakeClient) -> FlaskClient:
    """A client of the application with the default settings."""
    return make()
