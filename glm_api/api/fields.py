"""marshmallow fields without type conversion, and the base class of the request schemas.

marshmallow's own fields convert ("5" to 5, 5.7 to 5, "yes" to true); a caller whose types are wrong should hear of it.
Messages are predicates ("must be an integer from 1 to 4, but is 9"): the error that is made of them names the value.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from flask import current_app
from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, post_load, validate
from marshmallow.fields import Field


class Complaint(str):
    """A validation message with the ``code`` of its error."""

    code: str = "invalid_value"

    def __new__(cls, message: str, code: str) -> Complaint:
        complaint = super().__new__(cls, message)
        complaint.code = code
        return complaint


REQUIRED = Complaint("is missing", "missing_required_parameter")


def json_type(value: object) -> str:
    """The JSON type of ``value`` with its article: what a message says that it is."""
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
    """``value`` as a message may quote it: scalars, shortened; of anything larger only the type."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 64 else f"a string of {len(value)} characters"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = repr(value) if abs(value) < 1e30 else "larger than that"
        return text
    return json_type(value)


def one_of(choices: Iterable[str]) -> str:
    """'a', 'b' or 'c'."""
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}" if others else last


class String(fields.String):
    """A JSON string of at most ``max`` characters; with ``min`` 1 not an empty one."""

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
    """A JSON string that fits ``pattern`` as a whole; ``rule`` says in words what that is."""

    def __init__(self, pattern: str, rule: str, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Regexp(rf"{pattern}\Z", error=f"must {rule}.")], **kwargs)
        self.metadata = {"pattern": f"^{pattern}$", **self.metadata}


class Choice(String):
    """One of a few JSON strings."""

    def __init__(self, *choices: str, **kwargs: Any) -> None:
        self.choices = choices
        super().__init__(validate=[validate.OneOf(choices)], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if value not in self.choices:
            raise ValidationError(f"must be {one_of(self.choices)}, but is {shown(value)}.")
        return str(value)


class Integer(fields.Integer):
    """A JSON integer from ``min`` to ``max``."""

    def __init__(self, *, min: int, max: int = 2**31 - 1, **kwargs: Any) -> None:
        self.min, self.max = min, max
        super().__init__(strict=True, validate=[validate.Range(min=min, max=max)], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if type(value) is not int or not self.min <= value <= self.max:
            raise ValidationError(f"must be an integer from {self.min} to {self.max}, but is {shown(value)}.")
        return value


class Number(fields.Float):
    """A finite JSON number from ``min`` to ``max``."""

    def __init__(self, *, min: float, max: float, **kwargs: Any) -> None:
        self.min, self.max = min, max
        super().__init__(validate=[validate.Range(min=min, max=max)], **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        # Compared before it is converted: an integer may be larger than any float.
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
    """A JSON array of ``min`` to ``max`` values, loaded into a tuple."""

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
    """A JSON array of ``min`` to `MAX` token ids."""

    MAX = 2**20

    def __init__(self, *, min: int = 0, **kwargs: Any) -> None:
        self.min = min
        shape = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": min, "maxItems": self.MAX}
        super().__init__(metadata={**shape, **kwargs.pop("metadata", {})}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[int]:
        if not isinstance(value, list):
            raise ValidationError(f"must be an array of token ids, but is {json_type(value)}.")
        if not self.min <= len(value) <= self.MAX:
            raise ValidationError(f"must have {self.min} to {self.MAX} token ids, but has {len(value)}.")
        for index, token in enumerate(value):
            if type(token) is not int or not 0 <= token < 2**31:
                raise ValidationError({index: [f"must be a token id (an integer from 0), but is {shown(token)}."]})
        return value


class Object(fields.Dict):
    """A JSON object of any content."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, but is {json_type(value)}.")
        return value


class Part(fields.Nested):
    """A JSON object that another schema loads."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, partial: Any = None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, but is {json_type(value)}.")
        return super()._deserialize(value, attr, data, partial, **kwargs)


class Either(Field[Any]):
    """A value of one of several JSON types; its own type picks the field that loads it."""

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


class Tagged(Field[Any]):
    """A JSON object whose string at ``tag`` picks the schema that loads it.

    ``default`` is the tag of an object without one. ``refusals`` says of some other tags why they are not taken.
    """

    def __init__(
        self,
        tag: str,
        schemas: Mapping[str, type[Schema]],
        *,
        default: str | None = None,
        refusals: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tag, self.default, self.refusals = tag, default, dict(refusals or {})
        self.schema_types = dict(schemas)
        self._loaders = {name: schema() for name, schema in schemas.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Tagged:
        return copy.copy(self)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be an object, but is {json_type(value)}.")
        tag = value.get(self.tag, self.default)
        if tag is None:
            raise ValidationError({self.tag: [REQUIRED]})
        loader = self._loaders.get(tag) if isinstance(tag, str) else None
        if loader is None:
            raise ValidationError({self.tag: [self._refusal(tag)]})
        return loader.load(value)

    def _refusal(self, tag: object) -> str:
        if isinstance(tag, str) and tag in self.refusals:
            return self.refusals[tag]
        return f"must be {one_of(self._loaders)}, but is {shown(tag)}."


class Neutral(Field[Any]):
    """A parameter that this server cannot honour: accepted if its value asks for nothing, else refused by name.

    ``values`` are the values that ask for nothing. With the setting ``lenient`` every value is ignored.
    """

    def __init__(self, *values: object, reason: str = "this model's engine cannot do it", **kwargs: Any) -> None:
        self.values, self.reason = values, reason
        self.allowed = [*values, None]
        described = ", ".join(map(json.dumps, self.allowed))
        metadata = {"description": f"Not supported: {reason}. Only a neutral value is accepted ({described})."}
        super().__init__(load_default=None, metadata={**metadata, "enum": self.allowed}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> None:
        if current_app.config["GLM_SETTINGS"].lenient or any(_same(value, neutral) for neutral in self.values):
            return
        raise ValidationError(
            [Complaint(f"it is not supported: {self.reason}. Leave it out.", "unsupported_parameter")]
        )


def _same(value: object, neutral: object) -> bool:
    """Equal as JSON values: a boolean is no number."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


class RequestSchema(Schema):
    """Loads a JSON object into ``loads``. Unknown keys are ignored; where a key is optional, null means absent."""

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
        """The dataclass, with defaults in place of nulls. What it has no field for was only to be checked."""
        wanted = {field.name for field in dataclasses.fields(self.loads)}
        return self.loads(**{name: self._or_default(name, value) for name, value in data.items() if name in wanted})

    def _or_default(self, name: str, value: Any) -> Any:
        default = self.fields[name].load_default
        if value is not None or default is missing:
            return value
        return default() if callable(default) else default
