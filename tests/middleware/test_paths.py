"""One endpoint has one canonical path: other spellings of it are answered, limited, logged and counted as this one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from config import Settings
from glm_api import create_app
from glm_api.server.connections import Occupancy
from glm_api.server.paths import canonical
from tests.support.client import CHAT, HELLO, MakeApp, error
from tests.support.fake_pipeline import FakePipeline

# A spelling of each kind, of an endpoint of each kind.
POSTS: list[tuple[str, str, dict[str, Any]]] = [
    ("/chat/completions", CHAT, {"messages": HELLO}),
    ("/v1/chat/completions/", CHAT, {"messages": HELLO}),
    ("//chat/completions//", CHAT, {"messages": HELLO}),
    ("/v1//chat///completions", CHAT, {"messages": HELLO}),
    ("/completions", "/v1/completions", {"prompt": "Hi"}),
    ("/v1/completions/", "/v1/completions", {"prompt": "Hi"}),
    ("/responses", "/v1/responses", {"input": "Hi"}),
    ("/responses/", "/v1/responses", {"input": "Hi"}),
    ("/messages", "/v1/messages", {"max_tokens": 5, "messages": HELLO}),
    ("//messages/", "/v1/messages", {"max_tokens": 5, "messages": HELLO}),
    ("/messages/count_tokens", "/v1/messages/count_tokens", {"messages": HELLO}),
    ("/tokenize/", "/tokenize", {"content": "Hi"}),
]
GETS = [
    ("/models", "/v1/models"),
    ("/models/", "/v1/models"),
    ("//v1//models//", "/v1/models"),
    ("/models/chatglm3-demo", "/v1/models/<path:id>"),
    ("/v1/models/chatglm3-demo/", "/v1/models/<path:id>"),
    ("/v1/health", "/health"),
    ("/health/", "/health"),
    ("/v1/version", "/version"),
    ("/ping", "/ping"),
    ("/v1//version/", "/version"),
    ("//slots/", "/slots"),
]

SPELLINGS = [*(("POST", path, rule) for path, rule, _ in POSTS), *(("GET", path, rule) for path, rule in GETS)]


def ask(client: FlaskClient, method: str, path: str, **more: Any) -> TestResponse:
    # The test client itself would take the beginning of //x for a host.
    return client.open("/", method=method, environ_overrides={"PATH_INFO": path}, buffered=True, **more)


@pytest.mark.parametrize(("path", "rule", "body"), POSTS)
def test_a_post_to_another_spelling_is_answered(
    client: FlaskClient, path: str, rule: str, body: dict[str, Any]
) -> None:
    assert ask(client, "POST", path, json=body).status_code == 200


@pytest.mark.parametrize(("path", "rule"), GETS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_get_of_another_spelling_is_answered(client: FlaskClient, method: str, path: str, rule: str) -> None:
    response = ask(client, method, path)
    assert (response.status_code, "Location" in response.headers) == (200, False)
    assert bool(response.data) is (method == "GET")


@pytest.mark.parametrize("path", ["/ping", "/ping/"])
def test_a_ping_is_answered_as_health_is(client: FlaskClient, fake: FakePipeline, path: str) -> None:
    for method in ("GET", "POST"):
        assert ask(client, method, path).get_json() == {"status": "ok"}
    fake.state = "loading"
    for method in ("GET", "POST"):
        assert (ask(client, method, path).status_code, error(ask(client, method, path))["code"]) == (
            503,
            "model_loading",
        )


def test_a_ping_is_no_request_that_was_rejected(make_app: MakeApp, fake: FakePipeline) -> None:
    client = make_app().test_client()
    fake.state = "loading"
    assert ask(client, "POST", "/ping").status_code == 503
    assert 'glm_queue_rejected_total{reason="model_loading"} 0.0' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions/", "//v1/models/", "/models"])
def test_another_method_is_405_and_options_tells_the_methods(client: FlaskClient, path: str) -> None:
    assert ask(client, "DELETE", path).status_code == 405
    response = ask(client, "OPTIONS", path)
    assert response.status_code == 200
    assert {"OPTIONS", "POST" if "chat" in path else "GET"} <= set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize(("method", "path", "rule"), SPELLINGS)
def test_metrics_and_the_log_have_the_route_of_the_endpoint(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, method: str, path: str, rule: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="glm_api.request")
    client = make_app().test_client()
    ask(client, method, path)
    [line] = [record for record in caplog.records if record.name == "glm_api.request"]
    assert line.__dict__["route"] == rule
    # What the client sent, for who looks for it in the log of a proxy.
    assert (line.__dict__["path"] == path) if path != rule else ("path" not in line.__dict__)
    assert f'glm_http_requests_total{{method="{method}",route="{rule}"' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/nothing/é", "//nothing/é//"])
def test_the_log_has_characters_of_a_path_that_was_changed_as_they_are(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.INFO, logger="glm_api.request")
    ask(client, "GET", path.encode().decode("latin-1"))
    assert caplog.records[-1].__dict__["path"] == path


@pytest.mark.parametrize("path", ["/models", "/v1/models/", "//slots//", "/metrics/", "/chat/completions"])
def test_another_spelling_needs_a_key_too(make_app: MakeApp, path: str) -> None:
    client = make_app(api_keys=("sk-one",)).test_client()
    method = "POST" if "chat" in path else "GET"
    assert ask(client, method, path).status_code == 401
    assert ask(client, method, path, headers={"X-Api-Key": "sk-one"}).status_code in (200, 415)


@pytest.mark.parametrize("path", ["/v1/health", "/health/", "/ping", "/v1/version", "//version"])
def test_probes_and_the_version_need_no_key(make_app: MakeApp, path: str) -> None:
    assert ask(make_app(api_keys=("sk-one",)).test_client(), "GET", path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/health", "//health", "/ping/", "/livez/", "/metrics/"])
def test_a_server_without_room_answers_probes_under_each_spelling(make_app: MakeApp, path: str) -> None:
    app = make_app()
    occupancy: Occupancy = app.extensions["glm_occupancy"]
    occupancy.most, occupancy.requests = 10, 11
    assert ask(app.test_client(), "GET", path).status_code == 200
    assert ask(app.test_client(), "GET", "/models").status_code == 503


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions/"])
def test_a_page_of_an_allowed_origin_may_use_another_spelling(make_app: MakeApp, path: str) -> None:
    client = make_app(cors_origins=("https://a.example",), api_keys=("sk-one",)).test_client()
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    response = ask(client, "OPTIONS", path, headers=headers)
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, "https://a.example")
    assert "POST" in response.headers["Access-Control-Allow-Methods"]


def test_another_spelling_is_relayed() -> None:
    app = create_app(Settings(backend="openai", upstream_url="http://127.0.0.1:9/v1"))
    client = app.test_client()
    for path in ("/models", "/v1/models/", "/v1/version", "//livez"):
        assert ask(client, "GET", path).status_code == 200, path
    for path in ("/chat/completions", "/v1/completions/", "/responses", "/messages", "//v1/embeddings"):
        # It has reached the view, which reads the body.
        assert ask(client, "POST", path).status_code == 415, path


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/models/chatglm3-demo", "/v1/models/chatglm3-demo"),
        ("/v1/v1", None),
        ("/v1/v1/v1/models/", "/v1/models"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/x/embeddings", "/v1/embeddings"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/chat/completions/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions/completions", "/v1/completions"),
        ("/v1/completions/completions", "/v1/completions"),
        ("/v1/responses/responses", "/v1/responses"),
        ("/v1/embeddings", None),
        ("/v1/chat/completions/chatcmpl-1", None),
        ("/v1/responses/resp_1/nothing", None),
        ("/nothing", None),
    ],
)
def test_a_client_with_a_wrong_base_url_is_told_the_right_one(
    client: FlaskClient, path: str, right: str | None
) -> None:
    response = ask(client, "POST", path, json={})
    message = error(response)["message"]
    assert response.status_code == 404
    if right is None:
        assert "base URL" not in message
    else:
        assert message.endswith(f"must end in one /v1, such as http://127.0.0.1:8000/v1; then the path is {right}.")


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/messages/v1/messages", "/v1/messages"),
        ("/api/v1/messages/", "/v1/messages"),
        ("/v1/messages/batches", None),
    ],
)
def test_a_client_of_anthropics_api_with_a_wrong_base_url_is_told_the_right_one(
    client: FlaskClient, path: str, right: str | None
) -> None:
    response = ask(client, "POST", path, json={})
    message = response.get_json()["error"]["message"]
    assert response.status_code == 404
    if right is None:
        assert "base URL" not in message
    else:
        assert message.endswith(f"has no /v1, such as http://127.0.0.1:8000; then the path is {right}.")


def test_the_docs_page_redirects_as_its_links_are_relative(client: FlaskClient) -> None:
    assert ask(client, "GET", "/docs//").headers["Location"] == "../docs"


@given(st.text("/v1chatmodelspinghealth%.\n", max_size=40))
def test_a_canonical_path_stays_as_it_is(path: str) -> None:
    once = canonical(path)
    assert canonical(once) == once
    assert "//" not in once
    assert once in ("/", "/docs/") or not once.endswith("/")


@pytest.mark.parametrize(
    "path",
    [
        "/chats/completions",
        "/modelsx",
        "/messagesx",
        "/v1/slots",
        "/v1/metrics",
        "/completion",
        "/v1/props",
        "/docs/",
        "*",
    ],
)
def test_other_paths_are_not_changed(path: str) -> None:
    assert canonical(path) == path
