"""The OpenAPI document at ``/openapi.json``, and the blueprints whose decorators it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flask_smorest
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import EXCLUDE, Schema, fields

from glm_api.api.fields import Either, Tagged
from glm_api.api.json_body import BodyParser
from glm_api.middleware.auth import METRICS_ENDPOINT

View = TypeVar("View", bound=Callable[..., Any])

EVENT_STREAM = "text/event-stream"

ERRORS = {
    400: "The request is at fault; `param` names the value.",
    401: "No API key, or an unknown one (only where the server asks for keys).",
    403: "The name in the `Host` header is not one that the server answers under (see `GLM_ALLOWED_HOSTS`).",
    404: "There is no such thing; `model_not_found` for a model (only where the server is strict about names).",
    408: "The request body took too long to arrive.",
    413: "The request body is too large.",
    415: "The request body is not declared to be JSON.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "The server or the model process failed.",
    502: "The engine behind this server failed (only with `GLM_BACKEND=openai`).",
    503: "The server is loading the model, shutting down or overloaded; `Retry-After` says when to come back.",
    504: "The request waited or ran too long.",
}
REACHING = (401, 403)
READING = (400, *REACHING, 408, 413, 415)
TOKENIZING = (*READING, 500, 503, 504)
RELAYING = (*READING, 404, 429, 500, 502, 503, 504)
GENERATING = (*READING, 404, 429, 500, 503, 504)


class ErrorBodySchema(Schema):
    """The inside of the envelope."""

    message = fields.String(required=True)
    type = fields.String(required=True)
    param = fields.String(required=True, allow_none=True, metadata={"description": "Dotted path of what is at fault."})
    code = fields.String(required=True, allow_none=True)
    n_prompt_tokens = fields.Integer(
        metadata={
            "description": "With `context_length_exceeded`: tokens of the prompt, or where the message says "
            "“at least”, a number that it has at least."
        }
    )
    n_ctx = fields.Integer(metadata={"description": "With `context_length_exceeded`: tokens of the context."})


class ErrorSchema(Schema):
    """The error envelope."""

    error = fields.Nested(ErrorBodySchema, required=True)


class AnyOf(fields.Raw):
    """A value in an answer that one of these schemas describes; given out as it is."""

    def __init__(self, *schemas: type[Schema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schemas = schemas


class EventData(fields.Raw):
    """The data of a server-sent event: JSON that one of these schemas describes, or ``end``."""

    def __init__(self, *schemas: type[Schema], end: str | None = None, **kwargs: Any) -> None:
        super().__init__(required=True, **kwargs)
        self.schemas = schemas
        self.end = end


class EventSchema(Schema):
    """A server-sent event; it may have more than its data, a name for one."""

    class Meta:
        unknown = EXCLUDE


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """flask-smorest's blueprint with this server's body parser, and with types."""

    ARGUMENTS_PARSER = BodyParser()

    def arguments(self, schema: type[Schema], **kwargs: Any) -> Callable[[View], View]:
        """The schema that loads the request's JSON body; the view gets what it makes."""
        # An instance: of a class webargs would make one for each request, which takes longer than loading with it.
        decorate: Callable[[View], View] = super().arguments(schema(), **kwargs)
        return decorate

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """The path of a view."""
        decorate: Callable[[View], View] = super().route(rule, **options)
        return decorate

    def response(self, status_code: int, schema: type[Schema] | None = None, **kwargs: Any) -> Callable[[View], View]:
        """What the view answers when all is well."""
        decorate: Callable[[View], View] = super().response(status_code, schema, **kwargs)
        return decorate

    def alt_response(self, status_code: int, response: str | None = None, **kwargs: Any) -> Callable[[View], View]:
        """What the view may answer besides."""
        decorate: Callable[[View], View] = super().alt_response(status_code, response, **kwargs)
        return decorate

    def errors(self, *statuses: int) -> Callable[[View], View]:
        """The error statuses that the view may end in, all of them with the envelope."""

        def decorate(view: View) -> View:
            for status in statuses:
                view = self.alt_response(status, schema=ErrorSchema, description=ERRORS[status])(view)
            return view

        return decorate


def describe_alternatives(converter: OpenAPIConverter, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
    """apispec attribute function: `Either` and `Tagged` fields as ``anyOf`` and ``oneOf``."""
    resolve: Callable[[type[Schema]], dict[str, Any]] = converter.resolve_nested_schema
    match field:
        case Either():
            found = [converter.field2property(alternative) for alternative in field.alternatives.values()]
        case EventData():
            inside = {"anyOf": [resolve(schema) for schema in field.schemas]}
            found = [{"type": "string", "contentMediaType": "application/json", "contentSchema": inside}]
            if field.end is not None:
                found.append({"type": "string", "enum": [field.end]})
        case AnyOf():
            found = [resolve(schema) for schema in field.schemas]
        case Tagged():
            found = [resolve(schema) for schema in unique(field.schema_types)]
        case _:
            return {}
    return {"anyOf": [*found, {"type": "null"}] if field.allow_none else found}


def unique(schemas: Mapping[str, type[Schema]]) -> list[type[Schema]]:
    """The schemas without repetition, in order."""
    return list(dict.fromkeys(schemas.values()))


class Api(flask_smorest.Api):  # type: ignore[misc]
    """flask-smorest's document, with the envelope for errors."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """They are in `glm_api.errors`."""

    def _register_pagination_header(self) -> None:
        """Nothing here comes in pages."""


DESCRIPTION = """OpenAI's API for a GLM model that runs on chatglm-cpp. Every error has OpenAI's envelope.

Where the server asks for keys, send one as `Authorization: Bearer ...`."""

_TEXT = {"schema": {"type": "string"}}
METRICS = {
    "tags": ["ops"],
    "summary": "What Prometheus collects.",
    "responses": {
        "200": {
            "description": "Metrics, in the format that the Accept header asks for.",
            "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
        }
    },
}


def create_api(app: Flask, version: str) -> Api:
    """The document of ``app``; blueprints are registered through it."""
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
    api.ma_plugin.converter.add_attribute_function(describe_alternatives)
    api.spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    return api


def describe_metrics(api: Api, app: Flask) -> None:
    """The one route of the API that is not a blueprint's."""
    rule = next(app.url_map.iter_rules(METRICS_ENDPOINT))
    api.spec.path(rule=rule, operations={"get": METRICS})
