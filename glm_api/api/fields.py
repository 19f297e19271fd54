"""marshmallow fields without type conversion, and the base class of the request schemas.

marshmallow's own fields convert ("5" to 5, 5.7 to 5, "yes" to true); here a value of a wrong type is an error.
Messages are predicates ("must be an integer from 1 to 4, but is 9"): `json_body` puts the name of the value in front.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from flask import current_app
from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, post_load, validate
from marshmallow.fields import Field


class CodedMessage(str):
    """A validation message that carries the ``code`` of its error."""

    code: str = "invalid_value"

    def __new__(cls, message: str, code: str) -> CodedMessage:
        coded = super().__new__(cls, message)
        coded.code = code
        return coded


REQUIRED = CodedMessage("is missing", "missing_required_parameter")


def json_type(value: object) -> str:
    """Return the JSON type of ``value`` with its article, for messages: "a string"."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "an array"
        case _:
            return "an object"


def shown(value: object) -> str:
    """Return ``value`` for messages: a short string or number as it is, for all else its size or type."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 64 else f"a string of {len(value)} characters"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = repr(value) if abs(value) < 1e30 else "larger than that"
        return text
    return json_type(value)


def one_of(choices: Iterable[str]) -> str:
    """Return the choices for messages: "'a', 'b' or 'c'"."""
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}" if others else last


class String(fields.String):
    """A JSON string of at most ``max`` characters; with ``min=1`` it must not be empty."""

    def __init__(self, *, min: int = 0, max: int | None = None, **kwargs: Any) -> None:
        self.min, self.max = min, max
        bounds = [validate.Length(min=min or None, max=max)] if min or max is not None else []
        super().__init__(validate=[*bounds, *kwargs.pop("validate", [])], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(f"must be a string, but is {json_type(value)}.")
        if len(value) < self.min:
            raise ValidationError("must not be empty.")
        if self.max is not None and len(value) > self.max:
            raise ValidationError(f"must have at most {self.max} characters, but has {len(value)}.")
        return value


class Matching(String):
    """A JSON string that matches ``pattern`` as a whole; ``rule`` completes "must ..." for the message."""

    def __init__(self, pattern: str, rule: str, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Regexp(rf"{pattern}\Z", error=f"must {rule}.")], **kwargs)
        self.metadata = {"pattern": f"^{pattern}$", **self.metadata}


class Choice(String):
    """One of the JSON strings ``choices``."""

    def __init__(self, *choices: str, **kwargs: Any) -> None:
        self.choices = choices
        super().__init__(validate=[validate.OneOf(choices)], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if value not in self.choices:
            raise ValidationError(f"must be {one_of(self.choices)}, but is {shown(value)}.")
        return str(value)


def integer(value: object) -> int | None:
    """Return a JSON value as an integer, None if it is none. 24.0 is one, as in JSON Schema; true is not."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


class Integer(fields.Integer):
    """A JSON integer from ``min`` to ``max``."""

    def __init__(self, *, min: int, max: int = 2**31 - 1, **kwargs: Any) -> None:
        self.min, self.max = min, max
        super().__init__(strict=True, validate=[validate.Range(min=min, max=max)], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = integer(value)
        if number is None or not self.min <= number <= self.max:
            raise ValidationError(f"must be an integer from {self.min} to {self.max}, but is {shown(value)}.")
        return number


class TokenLimit(Integer):
    """The most new tokens of an answer, from ``min`` (0 or 1); -1 means that only the context limits it."""

    NONE = 2**31 - 1

    def __init__(self, *, min: int, metadata: Mapping[str, Any], **kwargs: Any) -> None:
        self._least = min
        described = {**metadata, "description": f"{metadata['description']} -1: as many as the context holds."}
        gap = {"not": {"enum": [0]}} if min else {}
        super().__init__(min=-1, max=self.NONE, metadata={**described, **gap}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = integer(value)
        if number == -1:
            return self.NONE
        if number is None or not self._least <= number <= self.max:
            raise ValidationError(
                f"must be an integer from {self._least} to {self.max}, or -1 for no limit, but is {shown(value)}."
            )
        return number


class Number(fields.Float):
    """A finite JSON number from ``min`` to ``max``."""

    def __init__(self, *, min: float, max: float, **kwargs: Any) -> None:
        self.min, self.max = min, max
        super().__init__(validate=[validate.Range(min=min, max=max)], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        # Compare before converting: an integer may be larger than any float.
        if type(value) not in (int, float) or not self.min <= value <= self.max:
            raise ValidationError(f"must be a number from {self.min:g} to {self.max:g}, but is {shown(value)}.")
        return float(value)


class Boolean(fields.Boolean):
    """A JSON boolean."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"must be true or false, but is {shown(value)}.")
        return value


class Array(fields.List[Any]):
    """A JSON array of ``min`` to ``max`` values; loaded into a tuple."""

    def __init__(self, inner: Field[Any], *, min: int = 0, max: int, **kwargs: Any) -> None:
        self.min, self.max = min, max
        super().__init__(inner, validate=[validate.Length(min=min or None, max=max)], **kwargs)

    def _deserialize(  # type: ignore[override]
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValidationError(f"must be an array, but is {json_type(value)}.")
        if len(value) < self.min:
            raise ValidationError("must not be empty.")
        if len(value) > self.max:
            raise ValidationError(f"must have at most {self.max} entries, but has {len(value)}.")
        return tuple(super()._deserialize(value, attr, data, **kwargs))


class TokenIds(Field[list[int]]):
    """A JSON array of ``min`` to ``max`` token ids."""

    def __init__(self, *, min: int = 0, max: int = 2**20, **kwargs: Any) -> None:
        self.min, self.max = min, max
        shape = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": min, "maxItems": max}
        super().__init__(metadata={**shape, **kwargs.pop("metadata", {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[int]:
        if not isinstance(value, list):
            raise ValidationError(f"must be an array of token ids, but is {json_type(value)}.")
        if not self.min <= len(value) <= self.max:
            raise ValidationError(f"must have {self.min} to {self.max} token ids, but has {len(value)}.")
        ids: list[int] = []
        for index, token in enumerate(value):
            id = integer(token)
            if id is None or not 0 <= id < 2**31:
                raise ValidationError({index: [f"must be a token id (an integer from 0), but is {shown(token)}."]})
            ids.append(id)
        return ids


class TokenBiases(Field[dict[int, float]]):
    """Numbers from ``-bound`` to ``bound`` for at most ``max`` token ids; false means ``-bound``.

    They are a JSON object with decimal strings as its keys, or llama-server's array of pairs of id and number.
    """

    _ID = r"(0|[1-9][0-9]{0,9})"

    def __init__(self, *, bound: float, max: int, **kwargs: Any) -> None:
        self.max = max
        self._bias = Number(min=-bound, max=bound)
        bias = {"anyOf": [{"type": "number", "minimum": -bound, "maximum": bound}, {"enum": [False]}]}
        pair = {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "integer", "minimum": 0}, bias]}
        shape = {
            "anyOf": [
                {
                    "type": "object",
                    "propertyNames": {"pattern": f"^{self._ID}$"},
                    "additionalProperties": bias,
                    "maxProperties": max,
                },
                {"type": "array", "items": pair, "maxItems": max},
                {"type": "null"},
            ]
        }
        super().__init__(metadata={**shape, **kwargs.pop("metadata", {})}, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[int, float]:
        if not isinstance(value, (dict, list)):
            raise ValidationError(f"must be an object or an array, but is {json_type(value)}.")
        if len(value) > self.max:
            raise ValidationError(f"must have at most {self.max} entries, but has {len(value)}.")
        if isinstance(value, list):
            return self._paired(value)
        return {self._id(key): self._at(key, bias) for key, bias in value.items()}

    def _paired(self, pairs: list[Any]) -> dict[int, float]:
        biases: dict[int, float] = {}
        for index, pair in enumerate(pairs):
            id = integer(pair[0]) if isinstance(pair, list) and len(pair) == 2 else None
            if id is None or not 0 <= id < 2**31:
                raise ValidationError({index: ["must be an array of a token id (an integer from 0) and a number."]})
            if id in biases:
                raise ValidationError({index: [f"must have another token id: {id} has a bias already."]})
            biases[id] = self._at(index, pair[1])
        return biases

    def _id(self, key: str) -> int:
        if re.fullmatch(self._ID, key) is None:
            raise ValidationError(f"must have token ids as its keys, but has {shown(key)}.")
        return int(key)

    def _at(self, key: str | int, bias: object) -> float:
        if bias is False:
            return self._bias.min
        try:
            number: float = self._bias.deserialize(bias)
        except ValidationError as error:
            raise ValidationError({key: error.messages}) from None
        return number


class Object(fields.Dict):
    """A JSON object with any content."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, but is {json_type(value)}.")
        return value


class NestedObject(fields.Nested):
    """A JSON object that is loaded by another schema; marshmallow's ``Nested`` with this module's messages."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, partial: Any = None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, but is {json_type(value)}.")
        return super()._deserialize(value, attr, data, partial, **kwargs)


class Union(Field[Any]):
    """A string, an array or an object; the JSON type of the value selects the field that loads it."""

    def __init__(
        self,
        *,
        string: Field[Any] | None = None,
        array: Field[Any] | None = None,
        object: Field[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        named = {"a string": string, "an array": array, "an object": object}
        self.alternatives = {name: field for name, field in named.items() if field is not None}

    def _bind_to_schema(self, field_name: str, parent: Schema | Field[Any]) -> None:
        super()._bind_to_schema(field_name, parent)
        self.alternatives = {name: copy.deepcopy(field) for name, field in self.alternatives.items()}
        for field in self.alternatives.values():
            field._bind_to_schema(field_name, self)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        field = self.alternatives.get(json_type(value))
        if field is None:
            raise ValidationError(f"must be {' or '.join(self.alternatives)}, but is {json_type(value)}.")
        return field.deserialize(value, attr, data, **kwargs)


class DiscriminatedUnion(Field[Any]):
    """A JSON object with a ``discriminator``: the key whose string value selects the schema that loads the object.

    ``default`` is the value for an object without that key. ``refusals`` are the messages for values that a client may
    well send but that are not accepted.
    """

    def __init__(
        self,
        discriminator: str,
        schemas: Mapping[str, type[Schema]],
        *,
        default: str | None = None,
        refusals: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.discriminator, self.default, self.refusals = discriminator, default, dict(refusals or {})
        self.schema_types = dict(schemas)
        self._loaders = {name: schema() for name, schema in schemas.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> DiscriminatedUnion:
        return copy.copy(self)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, but is {json_type(value)}.")
        kind = value.get(self.discriminator, self.default)
        if kind is None:
            raise ValidationError({self.discriminator: [REQUIRED]})
        loader = self._loaders.get(kind) if isinstance(kind, str) else None
        if loader is None:
            raise ValidationError({self.discriminator: [self._refusal(kind)]})
        return loader.load(value)

    def _refusal(self, kind: object) -> str:
        if isinstance(kind, str) and kind in self.refusals:
            return self.refusals[kind]
        return f"must be {one_of(self._loaders)}, but is {shown(kind)}."


class Unsupported(Field[Any]):
    """A parameter that this server cannot honour: only values without effect are accepted, and ignored.

    ``values`` are those values, beside null. With ``GLM_LENIENT`` every value is accepted and ignored.
    """

    def __init__(self, *values: object, reason: str = "this model's engine cannot do it", **kwargs: Any) -> None:
        self.values, self.reason = values, reason
        self.allowed = [*values, None]
        described = ", ".join(map(json.dumps, self.allowed))
        metadata = {"description": f"Not supported: {reason}. Only a neutral value is accepted ({described})."}
        super().__init__(load_default=None, metadata={**metadata, "enum": self.allowed}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> None:
        if current_app.config["GLM_SETTINGS"].lenient or any(same(value, neutral) for neutral in self.values):
            return
        raise ValidationError(
            [CodedMessage(f"it is not supported, because {self.reason}. Leave it out.", "unsupported_parameter")]
        )


def same(value: object, other: object) -> bool:
    """Return whether two JSON values are equal; in Python 1 is also True."""
    match value, other:
        case dict(), dict():
            return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
        case list(), list():
            return len(value) == len(other) and all(map(same, value, other))
        case _:
            return value == other and isinstance(value, bool) == isinstance(other, bool)


class RequestSchema(Schema):
    """Base of the request schemas: loads a JSON object into the dataclass ``loads``.

    Unknown keys are ignored. For an optional key null means the same as leaving it out.
    """

    loads: ClassVar[type[Any]]

    class Meta:
        unknown = EXCLUDE

    def on_bind_field(self, field_name: str, field_obj: Field[Any]) -> None:
        field_obj.error_messages = {
            **field_obj.error_messages,
            "required": REQUIRED,
            "null": REQUIRED if field_obj.required else "must not be null.",
        }
        if not field_obj.required:
            field_obj.allow_none = True

    @post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> Any:
        """Return the dataclass, with defaults in place of nulls. Keys for which it has no field were only checked."""
        wanted = {field.name for field in dataclasses.fields(self.loads)}
        return self.loads(**{name: self._or_default(name, value) for name, value in data.items() if name in wanted})

    def _or_default(self, name: str, value: Any) -> Any:
        default = self.fields[name].load_default
        if value is not None or default is missing:
            return value
        return default() if callable(default) else default
