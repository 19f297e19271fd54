"""API keys: if any are set, everything but probes and pages requires one; a changed key file is read again."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config import Settings
from glm_api import create_app, errors
from glm_api.middleware import auth
from tests.support.fake_pipeline import FakePipeline

MakeClient = Callable[..., FlaskClient]
MODELS = "/v1/models"


@pytest.fixture
def make_client() -> MakeClient:
    def make(**settings: object) -> FlaskClient:
        return create_app(Settings(**settings), FakePipeline()).test_client()  # type: ignore[arg-type]

    return make


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# for the team\nsk-team\n\n  sk-guest  \n")
    return path


def status(client: FlaskClient, key: str) -> int:
    return client.get(MODELS, headers={"Authorization": f"Bearer {key}"}).status_code


def rewrite(path: Path, text: str) -> None:
    """As editors and config managers do: a new file in the place of the old one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_without_keys_everybody_may_call(make_client: MakeClient) -> None:
    client = make_client()
    assert client.get(MODELS).status_code == 200
    assert status(client, "anything") == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk-two"},
        {"Authorization": "bearer sk-two"},
        {"X-Api-Key": "sk-two"},
    ],
)
def test_a_key_is_accepted_as_bearer_or_x_api_key(make_client: MakeClient, headers: dict[str, str]) -> None:
    assert make_client(api_keys=("sk-one", "sk-two")).get(MODELS, headers=headers).status_code == 200


@settings(deadline=None)
@given(st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1))
@example("sk-one=two")
@example('Bearer="a",b=c==')
def test_a_key_may_have_any_visible_characters(key: str) -> None:
    app = Flask(__name__)
    errors.register(app)
    auth.register(app, Settings(api_keys=(key,)))
    app.add_url_rule(MODELS, view_func=lambda: "")
    client = app.test_client()
    assert status(client, key) == 200
    assert status(client, f"{key}x") == 401
    assert client.get(MODELS, headers={"X-Api-Key": key}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk-wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer sk-on"},
        {"Authorization": "Basic c2stb25lOg=="},
        {"Authorization": "sk-one"},
        {"X-Api-Key": ""},
        {"X-Api-Key": "sch\u00fcssel"},
    ],
)
def test_any_other_key_is_refused_in_the_envelope(make_client: MakeClient, headers: dict[str, str]) -> None:
    response = make_client(api_keys=("sk-one",)).get(MODELS, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    error = response.get_json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_api_key", None)
    assert "sk-" not in error["message"]


@pytest.mark.parametrize(
    "path", ["/health", "/livez", "/ping", "/version", "/", "/docs", "/openapi.json", "/assets/app.js"]
)
def test_probes_and_pages_need_no_key(make_client: MakeClient, path: str) -> None:
    with make_client(api_keys=("sk-one",)).get(path) as response:
        assert response.status_code == 200


def test_every_other_route_needs_a_key(make_client: MakeClient) -> None:
    client = make_client(api_keys=("sk-one",))
    open_rules = {"/health", "/livez", "/ping", "/version", "/openapi.json"}
    rules = [
        rule
        for rule in client.application.url_map.iter_rules()
        if rule.rule not in open_rules and not rule.endpoint.startswith("pages.")
    ]
    assert {"/v1/chat/completions", "/v1/models", "/metrics"} <= {rule.rule for rule in rules}
    for rule in rules:
        method = "POST" if "POST" in (rule.methods or set()) else "GET"
        response = client.open(re.sub(r"<[^>]+>", "x", rule.rule), method=method)
        assert response.status_code == 401, rule


def test_an_unknown_path_is_404_also_without_a_key(make_client: MakeClient) -> None:
    assert make_client(api_keys=("sk-one",)).get("/nowhere").status_code == 404


def test_metrics_may_be_open_without_a_key(make_client: MakeClient) -> None:
    assert make_client(api_keys=("sk-one",)).get("/metrics").status_code == 401
    assert make_client(api_keys=("sk-one",), metrics_open=True).get("/metrics").status_code == 200


def test_keys_of_the_file_and_of_the_setting_are_valid(make_client: MakeClient, key_file: Path) -> None:
    client = make_client(api_keys=("sk-one",), api_keys_file=key_file)
    assert [status(client, key) for key in ("sk-one", "sk-team", "sk-guest", "# for the team")] == [200, 200, 200, 401]


def test_a_changed_file_is_read_again(make_client: MakeClient, key_file: Path) -> None:
    client = make_client(api_keys_file=key_file)
    assert status(client, "sk-team") == 200
    rewrite(key_file, "sk-new\n")
    assert (status(client, "sk-team"), status(client, "sk-new")) == (401, 200)


@pytest.mark.parametrize("broken", ["", "# nothing but this\n", "two words\n", "sk-sch\u00fcssel\n"])
def test_keys_stay_valid_if_the_file_becomes_invalid(
    make_client: MakeClient, key_file: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(api_keys_file=key_file)
    assert status(client, "sk-team") == 200
    rewrite(key_file, broken)
    with caplog.at_level(logging.WARNING):
        assert [status(client, key) for key in ("sk-team", "sk-team", "words")] == [200, 200, 401]
    assert [record.levelname for record in caplog.records] == ["WARNING"], "one warning for one change"
    assert "sk-" not in caplog.text


def test_keys_stay_valid_if_the_file_vanishes(
    make_client: MakeClient, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(api_keys_file=key_file)
    assert status(client, "sk-team") == 200
    key_file.unlink()
    assert status(client, "sk-team") == 200
    assert "GLM_API_KEYS_FILE cannot be read (No such file or directory)" in caplog.text
    key_file.write_text("sk-new\n")
    assert (status(client, "sk-team"), status(client, "sk-new")) == (401, 200)


def test_an_empty_file_has_no_valid_keys(make_client: MakeClient, tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    assert make_client(api_keys_file=tmp_path / "keys").get(MODELS).status_code == 401
