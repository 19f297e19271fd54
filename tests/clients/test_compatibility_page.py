"""docs/compatibility.md has a row for every parameter and endpoint, and says which parameters are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config import Settings
from glm_api import create_app
from glm_api.api.fields import RequestSchema, Unsupported
from glm_api.chat.schemas import ChatRequestSchema
from glm_api.completions.schemas import CompletionRequestSchema
from glm_api.responses.schemas import ResponseRequestSchema

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def rows(*headings: str) -> dict[str, str]:
    """Return this server's cell in the tables under these headings, for each name in the first column."""
    found: dict[str, str] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        if section.partition("\n")[0] in headings:
            for first, ours in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE):
                found |= dict.fromkeys(re.findall(r"`([^`]+)`", first), ours)
    return found


@pytest.mark.parametrize(
    ("schema", "heading"),
    [
        (ChatRequestSchema, None),
        (CompletionRequestSchema, "Parameters of completions"),
        (ResponseRequestSchema, "Parameters of responses"),
    ],
)
def test_each_parameter_has_its_row(schema: type[RequestSchema], heading: str | None) -> None:
    table = rows("Parameters of chat completions", *([heading] if heading else []))
    for name, field in schema().fields.items():
        assert name in table
        # The Responses API gives one answer only; the table of chat completions does not say that.
        if (name, schema) != ("n", ResponseRequestSchema):
            assert table[name].startswith("refused") == isinstance(field, Unsupported), name


def test_each_row_has_its_parameter() -> None:
    known = {
        name
        for schema in (ChatRequestSchema, CompletionRequestSchema, ResponseRequestSchema)
        for name in schema().fields
    }
    assert set(rows("Parameters of chat completions", "Parameters of completions", "Parameters of responses")) == known


def test_each_endpoint_has_its_row() -> None:
    document = create_app(Settings()).test_client().get("/openapi.json").get_json()
    table = rows("Endpoints")
    for path, methods in document["paths"].items():
        for method in {"get", "post"} & set(methods):
            assert f"{method.upper()} {path}" in table
