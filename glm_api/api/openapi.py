"""The OpenAPI document at ``/openapi.json``, and the blueprint class whose decorators describe the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flask_smorest
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import EXCLUDE, Schema, fields

from glm_api.api.fields import DiscriminatedUnion, Union
from glm_api.api.json_body import BodyParser
from glm_api.middleware.auth import METRICS_ENDPOINT

View = TypeVar("View", bound=Callable[..., Any])

EVENT_STREAM = "text/event-stream"

ERRORS = {
    400: "The request is invalid; `param` names the faulty parameter.",
    401: "The API key is missing or unknown (only if the server requires API keys).",
    403: "The server does not answer to the name in the `Host` header (see `GLM_ALLOWED_HOSTS`).",
    404: "The model does not exist (`model_not_found`); to a request to generate, only with `GLM_STRICT_MODEL`.",
    408: "The request body took too long to arrive.",
    413: "The request body is too large.",
    415: "The `Content-Type` header does not declare JSON, or the `Content-Encoding` header names something else than "
    "one of `gzip` and `deflate`.",
    429: "The queue is full; `Retry-After` says when to try again.",
    500: "The server or the model process failed.",
    502: "The engine behind this server failed (only with `GLM_BACKEND=openai`).",
    503: "The server is loading the model, shutting down or overloaded; `Retry-After` says when to try again.",
    504: "The request timed out, in the queue or while it ran.",
}
REACHING = (401, 403)
READING = (400, *REACHING, 408, 413, 415)
TOKENIZING = (*READING, 500, 503, 504)
RELAYING = (*READING, 404, 429, 500, 502, 503, 504)
GENERATING = (*READING, 404, 429, 500, 503, 504)


class ErrorBodySchema(Schema):
    """The error in its envelope."""

    message = fields.String(required=True)
    type = fields.String(required=True)
    param = fields.String(
        required=True, allow_none=True, metadata={"description": "Dotted path of the faulty parameter."}
    )
    code = fields.String(required=True, allow_none=True)
    n_prompt_tokens = fields.Integer(
        metadata={
            "description": "With `context_length_exceeded`: length of the prompt in tokens; a lower bound "
            "if the message says “at least”."
        }
    )
    n_ctx = fields.Integer(metadata={"description": "With `context_length_exceeded`: length of the context in tokens."})


class ErrorSchema(Schema):
    """The error envelope."""

    error = fields.Nested(ErrorBodySchema, required=True)


class AnyOf(fields.Raw):
    """A value of a response that one of ``schemas`` describes; it is sent unchanged."""

    def __init__(self, *schemas: type[Schema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schemas = schemas


class EventData(fields.Raw):
    """The data of a server-sent event: JSON that one of ``schemas`` describes, or the string ``end``."""

    def __init__(self, *schemas: type[Schema], end: str | None = None, **kwargs: Any) -> None:
        super().__init__(required=True, **kwargs)
        self.schemas = schemas
        self.end = end


class EventSchema(Schema):
    """A server-sent event; it may have more fields than its data, such as a name."""

    class Meta:
        unknown = EXCLUDE


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """flask-smorest's blueprint, with this server's body parser and with type hints."""

    ARGUMENTS_PARSER = BodyParser()

    def arguments(self, schema: type[Schema], **kwargs: Any) -> Callable[[View], View]:
        """Load the JSON body of the request with ``schema``, and pass the result to the view."""
        # Pass an instance: given a class, webargs would build a schema for every request, which is slower
        # than loading with it.
        decorate: Callable[[View], View] = super().arguments(schema(), **kwargs)
        return decorate

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Set the path of a view."""
        decorate: Callable[[View], View] = super().route(rule, **options)
        return decorate

    def response(
        self, status_code: int, schema: type[Schema] | Schema | dict[str, Any] | None = None, **kwargs: Any
    ) -> Callable[[View], View]:
        """Declare the success response of a view."""
        decorate: Callable[[View], View] = super().response(status_code, schema, **kwargs)
        return decorate

    def alt_response(self, status_code: int, response: str | None = None, **kwargs: Any) -> Callable[[View], View]:
        """Declare another response of a view."""
        decorate: Callable[[View], View] = super().alt_response(status_code, response, **kwargs)
        return decorate

    def errors(self, *statuses: int, schema: type[Schema] = ErrorSchema) -> Callable[[View], View]:
        """Declare the error statuses of a view; each has the error envelope ``schema`` as its body."""

        def decorate(view: View) -> View:
            for status in statuses:
                view = self.alt_response(status, schema=schema, description=ERRORS[status])(view)
            return view

        return decorate


def describe_alternatives(converter: OpenAPIConverter, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
    """Describe fields that have alternative schemas as ``anyOf`` (an apispec attribute function)."""
    resolve: Callable[[type[Schema]], dict[str, Any]] = converter.resolve_nested_schema
    match field:
        case Union():
            found = [converter.field2property(alternative) for alternative in field.alternatives.values()]
        case EventData():
            inside = {"anyOf": [resolve(schema) for schema in field.schemas]}
            found = [{"type": "string", "contentMediaType": "application/json", "contentSchema": inside}]
            if field.end is not None:
                found.append({"type": "string", "enum": [field.end]})
        case AnyOf():
            found = [resolve(schema) for schema in field.schemas]
        case DiscriminatedUnion():
            found = [resolve(schema) for schema in unique(field.schema_types)]
        case _:
            return {}
    return {"anyOf": [*found, {"type": "null"}] if field.allow_none else found}


def describe_types(converter: OpenAPIConverter, field: fields.Field[Any], *, ret: dict[str, Any]) -> dict[str, Any]:
    """Name each type of a value once, as JSON Schema requires (an apispec attribute function).

    apispec adds "null" to the types of a field that admits null, also if the field admits nothing else.
    """
    types = ret.get("type")
    if not isinstance(types, list):
        return {}
    different = list(dict.fromkeys(types))
    return {"type": different if len(different) > 1 else different[0]}


def unique(schemas: Mapping[str, type[Schema]]) -> list[type[Schema]]:
    """Return the schemas in order, each once."""
    return list(dict.fromkeys(schemas.values()))


class Api(flask_smorest.Api):  # type: ignore[misc]
    """flask-smorest's OpenAPI document, with the error envelope as the body of errors."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Register none: the error handlers are in `glm_api.errors`."""

    def _register_pagination_header(self) -> None:
        """Register none: no endpoint is paginated."""


DESCRIPTION = """OpenAI's API for GLM models. Every error has OpenAI's envelope; those of `/v1/messages`, which is
Anthropic's API, have Anthropic's.

If the server requires API keys, send one as `Authorization: Bearer ...`, or as `x-api-key: ...`."""

_TEXT = {"schema": {"type": "string"}}
METRICS = {
    "tags": ["ops"],
    "summary": "Return metrics for Prometheus.",
    "responses": {
        "200": {
            "description": "Metrics in the format that the Accept header requests.",
            "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
        }
    },
}


def create_api(app: Flask, version: str) -> Api:
    """Return the API document of ``app``; register blueprints through it."""
    app.config.update(
        API_TITLE="GLM API",
        API_VERSION=version,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
        API_SPEC_OPTIONS={
            "info": {"description": DESCRIPTION},
            # Relative to the document, for servers under a path prefix.
            "servers": [{"url": "./"}],
            "security": [{"key": []}, {}],
        },
    )
    api = Api(app)
    for describe in (describe_alternatives, describe_types):
        api.ma_plugin.converter.add_attribute_function(describe)
    api.spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    return api


def describe_metrics(api: Api, app: Flask) -> None:
    """Add `/metrics`, the only API route outside a blueprint, to the document."""
    rule = next(app.url_map.iter_rules(METRICS_ENDPOINT))
    api.spec.path(rule=rule, operations={"get": METRICS})
