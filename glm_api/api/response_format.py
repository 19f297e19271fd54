"""``response_format``: any text, any JSON object, or JSON that matches a schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from glm_api.api.fields import Boolean, Matching, Object, RequestSchema, String
from glm_api.api.json_schema import check_answer_schema, standalone
from glm_api.api.messages import NAME_PATTERN, NAME_RULE

# The JSON schema that any object matches.
ANY_OBJECT = "{}"


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The JSON schema that an answer must match, and how to describe it to the model."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """``type`` is ``text``, ``json_object`` or ``json_schema``."""

    type: str = "text"
    json_schema: JsonSchema | None = None

    @property
    def demanded_schema(self) -> str | None:
        """The text of the JSON schema that the answer must match; None where it may be any text."""
        if self.type == "text":
            return None
        schema = self.json_schema.schema if self.json_schema else None
        return json.dumps(standalone(schema), ensure_ascii=False) if schema else ANY_OBJECT


ANY_TEXT = ResponseFormat()


class JsonSchemaSchema(RequestSchema):
    """A named JSON schema."""

    loads: ClassVar[type[Any]] = JsonSchema
    name = Matching(NAME_PATTERN, NAME_RULE, required=True)
    description = String(max=4096, load_default=None)
    schema = Object(
        load_default=None,
        validate=check_answer_schema,
        metadata={
            "description": "JSON schema: at most 64 KiB and 32 levels; only internal references; patterns in the "
            "syntax of Python's re.",
            "additionalProperties": True,
        },
    )
    strict = Boolean(
        load_default=None, metadata={"description": "Accepted without effect: the answer must always match the schema."}
    )
