"""The OpenAPI document says what the live server takes and answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config import Settings
from glm_api import create_app
from tests.support.server import Server, start

# So small a context keeps every answer short, whatever max_tokens is generated.
CONTEXT = 128
ENVELOPE = {"message", "type", "param", "code"}
ANTHROPICS = {"message", "type"}

api = schemathesis.openapi.from_dict(create_app(Settings()).test_client().get("/openapi.json").get_json())
# Requests that the document does not allow never reach the model. tests/api/test_openapi.py tries them on the
# application alone.
api.config.generation.update(modes=[GenerationMode.POSITIVE])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("openapi"), max_length=str(CONTEXT))
    yield server
    server.http.close()
    server.stop()


@api.parametrize()
@settings(
    max_examples=20,
    # Shrinking a failure would send hundreds of further requests.
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_request_is_answered_as_documented(case: schemathesis.Case[Any], server: Server) -> None:
    response = case.call(base_url=server.url, timeout=60)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.json()["error"].keys() >= (ANTHROPICS if case.path.startswith("/v1/messages") else ENVELOPE)
    case.validate_response(
        response, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
    )


def test_no_process_died(server: Server) -> None:
    assert server.health() == 200
    assert "died" not in server.log.read_text()
