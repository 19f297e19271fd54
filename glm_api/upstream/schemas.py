"""The fields of a request that are validated before it is forwarded."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema

from glm_api.api.fields import Boolean, Object, String


class RelayedSchema(Schema):
    """A request that is forwarded; only these three fields are validated here."""

    class Meta:
        unknown = INCLUDE

    model = String(max=200, allow_none=True)
    stream = Boolean(allow_none=True)
    stream_options = Object(allow_none=True)
