"""Prompts that are no conversations: texts, or token ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError
from marshmallow.fields import Field

from glm_api.api.fields import TokenIds, json_type
from glm_api.backend.errors import ContextLengthExceeded, PromptError
from glm_api.context import pipeline

PromptInput = str | list[int]

_IDS = TokenIds(min=1)


class PromptsField(Field[tuple[PromptInput, ...]]):
    """A prompt as text or as token ids, or an array of at most ``most`` such prompts; loaded into a tuple."""

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        self._most = most
        ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
        several = {"type": "array", "minItems": 1, "maxItems": most}
        one_of = [
            {"type": "string"},
            {**several, "items": {"type": "string"}},
            ids,
            {**several, "items": ids},
        ]
        super().__init__(
            metadata={"anyOf": one_of, "description": "A prompt as text or token ids, or several prompts."}, **kwargs
        )

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[PromptInput, ...]:
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            raise ValidationError(f"must be a string or an array, but is {json_type(value)}.")
        if not value:
            raise ValidationError("must not be empty.")
        if isinstance(value[0], (int, float)):
            return (_IDS.deserialize(value),)
        if len(value) > self._most:
            raise ValidationError(f"must have at most {self._most} prompts, but has {len(value)}.")
        if isinstance(value[0], list):
            return tuple(_at(index, prompt) for index, prompt in enumerate(value))
        for index, prompt in enumerate(value):
            if not isinstance(prompt, str):
                raise ValidationError({index: [f"must be a string like the others, but is {json_type(prompt)}."]})
        return tuple(value)


def _at(index: int, prompt: object) -> list[int]:
    try:
        ids: list[int] = _IDS.deserialize(prompt)
    except ValidationError as error:
        raise ValidationError({index: error.messages}) from None
    return ids


def tokenized(prompt: PromptInput, param: str) -> tuple[str, list[int]]:
    """Return a prompt as text and as token ids; text gets the ids that open every prompt, given ids stay as they are.

    Raises `PromptError` for ids that the model does not have, and `ContextLengthExceeded`.
    """
    context = pipeline.model.context_length
    try:
        if isinstance(prompt, str):
            return prompt, pipeline.encode_text(prompt)
        if len(prompt) >= context:
            raise ContextLengthExceeded(len(prompt), context)
        # An id without a token would bring the model down: decoding finds it.
        return pipeline.decode(prompt), prompt
    except PromptError as error:
        raise error.at(param) from None
