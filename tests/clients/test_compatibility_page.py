"""docs/compatibility.md knows every parameter and endpoint, and the server does with each what the page says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from config import Settings
from docs.tables import PAGE, with_tables
from glm_api import create_app
from glm_api.api.fields import RequestSchema, Unsupported, same
from glm_api.api.parameter_table import (
    CHAT,
    COMPLETION,
    COMPLETIONS,
    GENERATION,
    MESSAGES,
    NATIVE,
    RESPONSES,
    Accepted,
    Refused,
    Row,
)
from glm_api.chat.schemas import ChatRequestSchema
from glm_api.completions.schemas import CompletionRequestSchema
from glm_api.messages.schemas import MessageRequestSchema
from glm_api.native_completion.schemas import NativeRequestSchema
from glm_api.responses.schemas import ResponseRequestSchema
from tests.support.client import error
from tests.support.processes import PATIENCE


def beside(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the rows of all endpoints without the parameters that ``rows`` have."""
    own = {name for row in rows for name in row.parameters}
    return tuple(row for row in GENERATION if own.isdisjoint(row.parameters))


CHAT_REQUEST: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
ENDPOINTS: dict[str, tuple[type[RequestSchema], tuple[Row, ...], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatRequestSchema, GENERATION + COMPLETION + CHAT, CHAT_REQUEST),
    "/v1/completions": (CompletionRequestSchema, beside(COMPLETIONS) + COMPLETION + COMPLETIONS, {"prompt": "Hi"}),
    "/completion": (NativeRequestSchema, beside(NATIVE) + NATIVE, {"prompt": "Hi"}),
    "/v1/responses": (ResponseRequestSchema, GENERATION + RESPONSES, {"input": "Hi"}),
    "/v1/messages": (MessageRequestSchema, GENERATION + MESSAGES, {**CHAT_REQUEST, "max_tokens": 5}),
}
# One of them is wrong for each parameter.
WRONG_VALUES: list[Any] = ["", "\x7fwrong", True, -7.5, [], [{}], {"wrong": [1]}]


def parameters(kind: type) -> list[tuple[str, str, Any]]:
    """Return endpoint, parameter and cell of each parameter whose cell is of this kind."""
    return [
        (endpoint, name, row.here)
        for endpoint, (_, rows, _) in ENDPOINTS.items()
        for row in rows
        if isinstance(row.here, kind)
        for name in row.parameters
    ]


def ask(client: FlaskClient, endpoint: str, name: str, value: Any) -> Any:
    return client.post(endpoint, json={**ENDPOINTS[endpoint][2], name: value})


def fault(response: Any) -> tuple[str | None, str]:
    """Return the parameter and the message of a refusal. Anthropic's envelope has the parameter in the message only."""
    assert response.status_code == 400
    body = response.get_json()
    if body.get("type") == "error":
        message = body["error"]["message"]
        named = re.match(r"(?:Invalid|Missing required parameter:) '([^']+)'", message)
        return named and named[1], message
    found = error(response)
    return found["param"], found["message"]


def test_the_page_has_the_tables() -> None:
    assert with_tables(PAGE.read_text()) == PAGE.read_text(), "run `make docs`"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_table_has_the_parameters_of_the_schema(endpoint: str) -> None:
    schema, rows, _ = ENDPOINTS[endpoint]
    honoured = [name for row in rows if isinstance(row.here, str) for name in row.parameters]
    refused = [name for row in rows if isinstance(row.here, Refused) for name in row.parameters]
    fields = schema().fields
    assert sorted(honoured) == sorted(name for name, field in fields.items() if not isinstance(field, Unsupported))
    assert sorted(refused) == sorted(name for name, field in fields.items() if isinstance(field, Unsupported))


@pytest.mark.parametrize(("endpoint", "name", "cell"), parameters(Refused))
def test_a_refused_parameter_is_refused_by_its_name(
    client: FlaskClient, endpoint: str, name: str, cell: Refused
) -> None:
    neutral: list[Any] = [*cell.neutral, None]
    for value in neutral:
        response = ask(client, endpoint, name, value)
        assert response.status_code == 200, response.text
    empty: list[Any] = [0, False, "", [], {}]
    others: list[Any] = ["\x7fwrong", 12.5, [{}], {"wrong": [1]}]
    others += [value for value in empty if not any(same(value, taken) for taken in cell.neutral)]
    for value in others:
        response = ask(client, endpoint, name, value)
        param, message = fault(response)
        assert param == name
        assert response.get_json()["error"].get("code", "unsupported_parameter") == "unsupported_parameter"
        # One colon only, and sentences that end.
        assert message.startswith(f"Invalid '{name}': it is not supported, because ")
        assert (message.count(":"), message.endswith(". Leave it out.")) == (1, True)


@pytest.mark.parametrize(("endpoint", "name", "cell"), parameters(Accepted))
def test_a_parameter_without_effect_is_taken(client: FlaskClient, endpoint: str, name: str, cell: Accepted) -> None:
    values: list[Any] = ["a", 12.5, [{}], {"a": 1}, None]
    for value in values:
        assert ask(client, endpoint, name, value).status_code == 200


@pytest.mark.parametrize(("endpoint", "name", "cell"), parameters(str))
def test_a_parameter_that_is_honoured_is_looked_at(client: FlaskClient, endpoint: str, name: str, cell: str) -> None:
    answers = [ask(client, endpoint, name, value) for value in WRONG_VALUES]
    params = [fault(answer)[0] for answer in answers if answer.status_code == 400]
    assert any(param == name or str(param).startswith(f"{name}.") for param in params)


def test_a_lenient_server_ignores_refused_parameters(make_app: Any) -> None:
    client = make_app(lenient=True).test_client()
    for endpoint, name, _ in parameters(Refused):
        assert ask(client, endpoint, name, {"wrong": [1]}).status_code == 200


def test_each_endpoint_has_its_row() -> None:
    document = create_app(Settings()).test_client().get("/openapi.json").get_json()
    table = PAGE.read_text().partition("\n## Endpoints\n")[2].partition("\n## ")[0]
    for path, methods in document["paths"].items():
        for method in {"get", "post"} & set(methods):
            assert f"`{method.upper()} {path}`" in table


# What the SDKs send as headers.
HEADERS = {"betas", "workspace_id"}
SDK_PARAMETERS = """
import inspect
import json

from anthropic import Anthropic
from openai import OpenAI

openai, anthropic = OpenAI(api_key="none"), Anthropic(api_key="none")
functions = {
    "/v1/chat/completions": [openai.chat.completions.create],
    "/v1/completions": [openai.completions.create],
    "/v1/responses": [openai.responses.create, openai.responses.input_tokens.count],
    "/v1/messages": [
        anthropic.messages.create,
        anthropic.beta.messages.create,
        anthropic.messages.count_tokens,
        anthropic.beta.messages.count_tokens,
    ],
}
own = {"extra_headers", "extra_query", "extra_body", "timeout"}
found = {
    path: sorted({name for one in several for name in inspect.signature(one).parameters} - own)
    for path, several in functions.items()
}
print(json.dumps(found))
"""


def test_the_tables_have_all_parameters_of_the_sdks(python_clients: Path) -> None:
    run = subprocess.run(
        [python_clients / "python", "-c", SDK_PARAMETERS], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    for endpoint, names in json.loads(run.stdout).items():
        rows = ENDPOINTS[endpoint][1]
        assert set(names) - HEADERS - {name for row in rows for name in row.parameters} == set(), endpoint
