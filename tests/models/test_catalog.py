"""The list of models: the served model, once under each of its names."""

from __future__ import annotations

from datetime import datetime

import pytest
from flask.testing import FlaskClient

from glm_api.backend.errors import ModelLoading
from tests.support.client import MakeApp, error
from tests.support.fake_pipeline import FakePipeline


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    return make_app(model_name="THUDM/chatglm3-6b", model_aliases=("gpt-4", "chat")).test_client()


def test_every_name_is_listed(client: FlaskClient) -> None:
    body = client.get("/v1/models").get_json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["THUDM/chatglm3-6b", "gpt-4", "chat"]
    assert {model["object"] for model in body["data"]} == {"model"}


@pytest.mark.parametrize("id", ["THUDM/chatglm3-6b", "THUDM%2Fchatglm3-6b", "gpt-4"])
def test_one_model_is_described_and_its_id_may_have_slashes(client: FlaskClient, id: str) -> None:
    body = client.get(f"/v1/models/{id}").get_json()
    assert body["id"] == id.replace("%2F", "/")
    assert body["meta"]["n_ctx"] == 8192


def test_a_client_of_anthropics_api_gets_its_shape(client: FlaskClient) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    body = client.get("/v1/models", headers=headers).get_json()
    created = body["data"][0]["created_at"]
    names = ["THUDM/chatglm3-6b", "gpt-4", "chat"]
    known = {"type": "model", "created_at": created, "lifecycle": "active"}
    listed = [{**known, "id": name, "display_name": name} for name in names]
    assert body == {"data": listed, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    assert datetime.fromisoformat(created).timestamp() == client.get("/v1/models").get_json()["data"][0]["created"]
    assert client.get(f"/v1/models/{names[0]}", headers=headers).get_json() == listed[0]
    assert client.get("/v1/models/other", headers=headers).status_code == 404


def test_an_unknown_model_is_404(client: FlaskClient) -> None:
    response = client.get("/v1/models/THUDM/glm-4")
    found = error(response)
    assert (response.status_code, found["code"], found["param"]) == (404, "model_not_found", "model")
    assert "THUDM/chatglm3-6b" in found["message"]


def test_a_loading_model_is_listed_without_its_facts(client: FlaskClient, fake: FakePipeline) -> None:
    fake.info = ModelLoading("Loading.")
    models = client.get("/v1/models").get_json()["data"]
    assert [model["id"] for model in models] == ["THUDM/chatglm3-6b", "gpt-4", "chat"]
    assert not any("meta" in model for model in models)
