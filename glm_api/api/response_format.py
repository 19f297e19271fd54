"""What the text of an answer must be: any text, JSON, a regular expression, one of several choices.

OpenAI's ``response_format`` says it, llama-server's ``json_schema`` and vLLM's ``structured_outputs``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from glm_api.api.fields import Array, Boolean, Matching, Object, RequestSchema, String, Unsupported
from glm_api.api.json_schema import check_schema, standalone
from glm_api.api.messages import NAME_PATTERN, NAME_RULE
from glm_api.errors import invalid
from glm_api.pipeline.conversation import ChoiceOutput, JsonOutput, RegexOutput, StructuredOutput

# The JSON schema that any object matches.
ANY_OBJECT = '{"type": "object"}'

MAX_REGEX_LENGTH = 4096
MAX_ALTERNATIVES = 1000
MAX_ALTERNATIVE_LENGTH = 1024


def schema_field(**kwargs: Any) -> Object:
    """Return a field for the JSON schema of an answer."""
    described = "JSON schema: at most 64 KiB and 32 levels; only internal references."
    if "description" in kwargs:
        described = f"{kwargs.pop('description')} {described}"
    return Object(
        load_default=None,
        validate=check_schema,
        metadata={"description": described, "additionalProperties": True},
        **kwargs,
    )


def to_json_output(schema: dict[str, Any] | None, param: str) -> JsonOutput:
    """Return the demand for JSON that matches ``schema``; without one, for any JSON object."""
    return JsonOutput(json.dumps(standalone(schema), ensure_ascii=False) if schema else ANY_OBJECT, param)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The JSON schema that an answer must match, and how to describe it to the model."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """``type`` is ``text``, ``json_object`` or ``json_schema``. ``schema`` may stand beside ``json_object``."""

    type: str = "text"
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None

    @property
    def description(self) -> str | None:
        """What the client tells the model of the schema."""
        return self.json_schema.description if self.json_schema else None

    def output(self, param: str, schema_param: str) -> JsonOutput | None:
        """Return what the answer must be. These are the paths of the format and of the schema of a ``json_schema``."""
        if self.type == "text":
            return None
        if self.json_schema is not None:
            return to_json_output(self.json_schema.schema, schema_param)
        return to_json_output(self.schema, f"{param}.schema")


ANY_TEXT = ResponseFormat()


class JsonSchemaSchema(RequestSchema):
    """A named JSON schema."""

    loads: ClassVar[type[Any]] = JsonSchema
    name = Matching(NAME_PATTERN, NAME_RULE, required=True)
    description = String(max=4096, load_default=None)
    schema = schema_field()
    strict = Boolean(
        load_default=None, metadata={"description": "Accepted without effect: the answer always matches the schema."}
    )


@dataclass(frozen=True, slots=True)
class StructuredOutputs:
    """vLLM's ``structured_outputs``."""

    json: dict[str, Any] | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] | None = None

    def outputs(self, param: str) -> list[StructuredOutput]:
        """Return what the answer must be: one demand for each of the keys."""
        demands: list[StructuredOutput] = []
        if self.json is not None or self.json_object:
            demands.append(to_json_output(self.json, f"{param}.json"))
        if self.regex is not None:
            demands.append(RegexOutput(self.regex, f"{param}.regex"))
        if self.choice is not None:
            demands.append(ChoiceOutput(self.choice, f"{param}.choice"))
        return demands


class StructuredOutputsSchema(RequestSchema):
    """What the answer must be, as vLLM says it. One of the keys is needed."""

    loads = StructuredOutputs
    json = schema_field()
    json_object = Boolean(load_default=False, metadata={"description": "Any JSON object."})
    regex = String(
        min=1,
        max=MAX_REGEX_LENGTH,
        load_default=None,
        metadata={"description": "Regular expression that the whole answer matches; without look-around."},
    )
    choice = Array(
        String(min=1, max=MAX_ALTERNATIVE_LENGTH),
        min=1,
        max=MAX_ALTERNATIVES,
        load_default=None,
        metadata={"description": "The answer is one of these."},
    )
    grammar = Unsupported("", reason="this server takes json, regex and choice")
    structural_tag = Unsupported("", reason="this server takes json, regex and choice")


def structured_output(
    format: JsonOutput | None, schema: dict[str, Any] | None, outputs: StructuredOutputs | None
) -> StructuredOutput | None:
    """Return what the answer must be, from ``format``, ``json_schema`` and ``structured_outputs`` of a request.

    Raises `ApiError` if more than one of them says it.
    """
    demands: list[StructuredOutput] = [] if format is None else [format]
    if schema is not None:
        demands.append(to_json_output(schema, "json_schema"))
    if outputs is not None:
        said = outputs.outputs("structured_outputs")
        if len(said) != 1:
            count = "only one" if said else "one"
            raise invalid(
                f"Invalid 'structured_outputs': it must have {count} of json, regex and choice.", "structured_outputs"
            )
        demands += said
    if len(demands) > 1:
        first, second = demands[0].param.partition(".")[0], demands[1].param.partition(".")[0]
        raise invalid(f"Invalid '{second}': '{first}' says already what the answer must be.", second)
    return demands[0] if demands else None
