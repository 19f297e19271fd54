"""Response schemas of the model endpoints."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class ModelMetaSchema(Schema):
    """Facts about the model, known once it is loaded."""

    family = fields.String(required=True)
    n_ctx = fields.Integer(
        required=True, metadata={"description": "Length of the context in tokens, prompt and answer together."}
    )
    n_vocab = fields.Integer(required=True)
    size = fields.Integer(required=True, metadata={"description": "Size of the model file in bytes."})
    supports_tools = fields.Boolean(required=True)
    supports_images = fields.Boolean(required=True)


class ModelSchema(Schema):
    """A model."""

    id = fields.String(required=True)
    object = fields.String(required=True, validate=validate.Equal("model"))
    created = fields.Integer(required=True, metadata={"description": "Unix time at which the server started."})
    owned_by = fields.String(required=True)
    meta = fields.Nested(ModelMetaSchema)


class ModelListSchema(Schema):
    """The list of models: the served model, once under each of its names."""

    object = fields.String(required=True, validate=validate.Equal("list"))
    data = fields.List(fields.Nested(ModelSchema), required=True)
