"""CORS: off by default, only for listed origins, never with credentials."""

from __future__ import annotations

from flask.testing import FlaskClient

from config import Settings
from glm_api import create_app
from tests.support.fake_pipeline import FakePipeline

CHAT = "/v1/chat/completions"
OURS = "https://chat.example.org"
ALLOW_ORIGIN = "Access-Control-Allow-Origin"


def client(*origins: str, **settings: object) -> FlaskClient:
    return create_app(Settings(cors_origins=origins, **settings), FakePipeline()).test_client()  # type: ignore[arg-type]


def test_no_origin_is_allowed_by_default() -> None:
    assert ALLOW_ORIGIN not in client().get("/v1/models", headers={"Origin": OURS}).headers


def test_only_listed_origins_are_allowed() -> None:
    ours = client(OURS).get("/v1/models", headers={"Origin": OURS})
    assert ours.headers[ALLOW_ORIGIN] == OURS
    for other in ("https://evil.example.org", "https://chat.example.org.evil.test", "http://chat.example.org", "null"):
        assert ALLOW_ORIGIN not in client(OURS).get("/v1/models", headers={"Origin": other}).headers, other


def test_a_dot_in_an_origin_is_not_a_wildcard() -> None:
    assert ALLOW_ORIGIN not in client(OURS).get("/livez", headers={"Origin": "https://chatxexample.org"}).headers


def test_credentials_are_never_allowed() -> None:
    for origins in ((OURS,), ("*",)):
        response = client(*origins).get("/v1/models", headers={"Origin": OURS})
        assert "Access-Control-Allow-Credentials" not in response.headers


def test_a_star_allows_every_origin() -> None:
    assert client("*").get("/v1/models", headers={"Origin": "https://any.test"}).headers[ALLOW_ORIGIN] == "*"


def test_a_preflight_request_needs_no_key() -> None:
    response = client(OURS, api_keys=("sk-one",)).options(
        CHAT,
        headers={
            "Origin": OURS,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
        },
    )
    assert response.status_code == 200
    assert response.headers[ALLOW_ORIGIN] == OURS
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert all(header in allowed for header in ("authorization", "content-type", "x-stainless-os"))


def test_a_page_can_read_errors_and_retry_after() -> None:
    response = client(OURS, api_keys=("sk-one",)).post(CHAT, json={}, headers={"Origin": OURS})
    assert response.status_code == 401
    assert response.headers[ALLOW_ORIGIN] == OURS
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


def test_a_page_may_delete_a_stored_response() -> None:
    response = client(OURS).options(
        "/v1/responses/resp_1", headers={"Origin": OURS, "Access-Control-Request-Method": "DELETE"}
    )
    assert "DELETE" in response.headers["Access-Control-Allow-Methods"]


def test_a_page_can_read_the_id_of_a_request_under_both_names() -> None:
    response = client(OURS).get("/v1/models", headers={"Origin": OURS})
    assert {"x-request-id", "request-id"} <= set(response.headers["Access-Control-Expose-Headers"].split(", "))
