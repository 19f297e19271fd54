"""The little that this server reads of a request before it passes it on."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema

from glm_api.api.fields import Boolean, Object, String


class RelayedSchema(Schema):
    """A request as the engine takes it; all but these is the engine's to judge."""

    class Meta:
        unknown = INCLUDE

    model = String(max=200, allow_none=True)
    stream = Boolean(allow_none=True)
    stream_options = Object(allow_none=True)
