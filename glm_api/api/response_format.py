"""What the text of an answer must be: any text, JSON, a regular expression, one of several choices.

OpenAI's ``response_format`` says it, llama-server's ``json_schema``, vLLM's ``structured_outputs`` and its older
``guided_json`` and the like.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from marshmallow import ValidationError, validates_schema

from glm_api.api.fields import (
    REQUIRED,
    Array,
    Boolean,
    Choice,
    DiscriminatedUnion,
    Matching,
    NestedObject,
    Object,
    RequestSchema,
    String,
    Unsupported,
    json_type,
    same,
)
from glm_api.api.json_body import check_values, parse
from glm_api.api.json_schema import MAX_BYTES, MAX_DEPTH, check_schema, standalone
from glm_api.errors import ApiError, invalid
from glm_api.pipeline.conversation import ChoiceOutput, JsonOutput, RegexOutput, StructuredOutput

# The JSON schema that any object matches.
ANY_OBJECT = '{"type": "object"}'

NAME_PATTERN = "[a-zA-Z0-9_-]{1,64}"
NAME_RULE = "be 1 to 64 letters, digits, underscores or hyphens"

MAX_REGEX_LENGTH = 4096
MAX_ALTERNATIVES = 1000
MAX_ALTERNATIVE_LENGTH = 1024


class SchemaOrText(Object):
    """A JSON object, or a string that holds one, as vLLM's users send a schema."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, str):
            return _parsed(value)
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, or a string that holds one, but is {json_type(value)}.")
        return value


def _parsed(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``. Raises `ValidationError`, also for what no request body may hold."""
    if len(text) > MAX_BYTES:
        raise ValidationError(f"must be a JSON schema of at most {MAX_BYTES // 1024} KiB.")
    try:
        document = parse(text)
    except ValueError as error:
        raise ValidationError(f"must hold a JSON object, but is not valid JSON: {error}.") from None
    except RecursionError:
        raise ValidationError(f"must be a JSON schema of at most {MAX_DEPTH} levels.") from None
    if not isinstance(document, dict):
        raise ValidationError(f"must be an object, or a string that holds one, but it holds {json_type(document)}.")
    try:
        check_values(document)
    except ApiError as error:
        raise ValidationError(f"must hold a JSON object as a request body may be. {error.message}") from None
    return document


def schema_field(field: type[Object] = Object, **kwargs: Any) -> Object:
    """Return a field for the JSON schema of an answer."""
    described = "JSON schema: at most 64 KiB and 32 levels; only internal references."
    if "description" in kwargs:
        described = f"{kwargs.pop('description')} {described}"
    if not kwargs.get("required"):
        kwargs["load_default"] = None
    shape: dict[str, Any] = {"additionalProperties": True}
    if field is SchemaOrText:
        described = f"{described} It may be a string, too, that holds the schema."
        shape = {"type": ["object", "string"]}
    return field(validate=check_schema, metadata={"description": described, **shape}, **kwargs)


def _regex_field(description: str) -> String:
    return String(min=1, max=MAX_REGEX_LENGTH, load_default=None, metadata={"description": description})


def _choice_field(description: str) -> Array:
    choice = String(min=1, max=MAX_ALTERNATIVE_LENGTH)
    return Array(choice, min=1, max=MAX_ALTERNATIVES, load_default=None, metadata={"description": description})


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
    """``type`` is ``text``, ``json_object`` or ``json_schema``. ``schema`` may stand beside the latter two."""

    type: str = "text"
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None

    @property
    def description(self) -> str | None:
        """What the client tells the model of the schema."""
        return self.json_schema.description if self.json_schema else None

    @property
    def output(self) -> JsonOutput | None:
        """What the answer must be; None for any text."""
        if self.type == "text":
            return None
        if self.json_schema is not None and self.schema is None:
            return to_json_output(self.json_schema.schema, "response_format.json_schema.schema")
        return to_json_output(self.schema, "response_format.schema")


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


class TextFormatSchema(RequestSchema):
    """Any text."""

    loads = ResponseFormat
    type = Choice("text", required=True)


class JsonObjectFormatSchema(RequestSchema):
    """Any JSON object, or one that matches a schema."""

    loads = ResponseFormat
    type = Choice("json_object", required=True)
    schema = schema_field()


class JsonSchemaFormatSchema(RequestSchema):
    """JSON that matches a schema: that in `json_schema`, or llama-server's `schema`."""

    loads = ResponseFormat
    type = Choice("json_schema", required=True)
    json_schema = NestedObject(JsonSchemaSchema, load_default=None)
    schema = schema_field(description="llama-server's form: the schema without a name.")

    @validates_schema
    def check_schemas(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Raise `ValidationError` unless the format has one schema, in one of the two places or in both."""
        named, schema = data.get("json_schema"), data.get("schema")
        if named is None and schema is None:
            raise ValidationError({"json_schema": [REQUIRED]})
        if named is not None and schema is not None and named.schema is not None and not same(named.schema, schema):
            raise ValidationError({"schema": ["must be left out, or be the same as json_schema.schema."]})


FORMATS = {"text": TextFormatSchema, "json_object": JsonObjectFormatSchema, "json_schema": JsonSchemaFormatSchema}


def response_format_field() -> DiscriminatedUnion:
    """Return the field ``response_format``."""
    return DiscriminatedUnion(
        "type",
        FORMATS,
        load_default=ANY_TEXT,
        metadata={
            "description": "With `json_object` and `json_schema` the model can write nothing but such JSON. The answer "
            "may only be cut, by `max_tokens`.",
            "default": {"type": "text"},
        },
    )


@dataclass(frozen=True, slots=True)
class StructuredOutputs:
    """vLLM's ``structured_outputs``."""

    json: dict[str, Any] | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] | None = None

    def outputs(self, param: str) -> list[StructuredOutput]:
        """Return what the answer must be: one demand for each of the keys, whose paths begin with ``param``."""
        demands: list[StructuredOutput] = []
        if self.json is not None:
            demands.append(to_json_output(self.json, f"{param}json"))
        if self.json_object:
            demands.append(to_json_output(None, f"{param}json"))
        if self.regex is not None:
            demands.append(RegexOutput(self.regex, f"{param}regex"))
        if self.choice is not None:
            demands.append(ChoiceOutput(self.choice, f"{param}choice"))
        return demands


class StructuredOutputsSchema(RequestSchema):
    """What the answer must be, as vLLM says it. One of the keys is needed."""

    loads = StructuredOutputs
    json = schema_field(SchemaOrText)
    json_object = Boolean(load_default=False, metadata={"description": "Any JSON object."})
    regex = _regex_field("Regular expression that the whole answer matches; without look-around.")
    choice = _choice_field("The answer is one of these.")
    grammar = Unsupported("", reason="this server takes json, regex and choice")
    structural_tag = Unsupported("", reason="this server takes json, regex and choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredParameters:
    """Base of the requests that may say what the text of the answer must be. No more than one parameter may say it."""

    structured_outputs: StructuredOutputs | None = None
    json_schema: dict[str, Any] | None = None
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: tuple[str, ...] | None = None

    def structured(self, format: JsonOutput | None = None) -> StructuredOutput | None:
        """Return what the answer must be; ``format`` is what the request's format says.

        Raises `ApiError` if more than one parameter says it.
        """
        demands: list[StructuredOutput] = [] if format is None else [format]
        if self.json_schema is not None:
            demands.append(to_json_output(self.json_schema, "json_schema"))
        if self.structured_outputs is not None:
            said = self.structured_outputs.outputs("structured_outputs.")
            if len(said) != 1:
                count = "only one" if said else "one"
                raise invalid(
                    f"Invalid 'structured_outputs': it must have {count} of json, json_object, regex and choice.",
                    "structured_outputs",
                )
            demands += said
        demands += StructuredOutputs(json=self.guided_json, regex=self.guided_regex, choice=self.guided_choice).outputs(
            "guided_"
        )
        if len(demands) > 1:
            first, second = demands[0].param.partition(".")[0], demands[1].param.partition(".")[0]
            raise invalid(f"Invalid '{second}': '{first}' says already what the answer must be.", second)
        return demands[0] if demands else None


class StructuredParametersSchema(RequestSchema):
    """The parameters beside a format that say what the text of the answer must be."""

    loads: ClassVar[type[Any]] = StructuredParameters
    structured_outputs = NestedObject(StructuredOutputsSchema, load_default=None)
    json_schema = schema_field(description="The answer is JSON that matches it, as with `response_format`.")
    guided_json = schema_field(SchemaOrText, description="Older name of `structured_outputs.json`.")
    guided_regex = _regex_field("Older name of `structured_outputs.regex`.")
    guided_choice = _choice_field("Older name of `structured_outputs.choice`.")
