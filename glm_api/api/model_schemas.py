"""What the model endpoints answer."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class ModelMetaSchema(Schema):
    """Facts of the model, known as soon as it is loaded."""

    family = fields.String(required=True)
    n_ctx = fields.Integer(required=True, metadata={"description": "Context in tokens, prompt and answer together."})
    n_vocab = fields.Integer(required=True)
    size = fields.Integer(required=True, metadata={"description": "Bytes of the model's file."})
    supports_tools = fields.Boolean(required=True)
    supports_images = fields.Boolean(required=True)


class ModelSchema(Schema):
    """A model."""

    id = fields.String(required=True)
    object = fields.String(required=True, validate=validate.Equal("model"))
    created = fields.Integer(required=True, metadata={"description": "When the server started, in Unix time."})
    owned_by = fields.String(required=True)
    meta = fields.Nested(ModelMetaSchema)


class ModelListSchema(Schema):
    """All models: the one, under each of its names."""

    object = fields.String(required=True, validate=validate.Equal("list"))
    data = fields.List(fields.Nested(ModelSchema), required=True)
