"""What the endpoints for operators take and answer."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class StatusSchema(Schema):
    """All is well."""

    status = fields.String(required=True, validate=validate.Equal("ok"))
