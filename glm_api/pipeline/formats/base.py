"""The interface of a model family's format.

A format turns a conversation into the token ids that the family was trained on, and token ids back into text and
tool calls. It sees the tokenizer through `Tokenizer`, never chatglm_cpp itself, so it can be tested with scripted ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glm_api.pipeline.conversation import Conversation
from glm_api.pipeline.frames import Event, FinishReason
from glm_api.pipeline.model_info import OutputSpec


class Tokenizer(Protocol):
    """The part of chatglm_cpp's tokenizers that formats stand on."""

    def encode(self, text: str) -> list[int]:
        """Ordinary text as ids: no special ids in front, none produced by any text."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """The UTF-8 bytes that ``ids`` add to a text, special and unknown ids left out; never raises.

        ``decode(a + b) == decode(a) + decode(b)``: a character may be cut between two ids, and the space in front of
        a word is kept, at the very beginning too.
        """

    def role(self, name: str) -> int:
        """The id of ``<|name|>`` (system, user, assistant, observation). Raises KeyError where the family has none."""

    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """chatglm_cpp's own chat template over (role, content) pairs, uncut: what a plain dialogue must equal."""

    @property
    def prefix(self) -> list[int]:
        """The special ids that open (ChatGLM-6B: that close) every prompt."""

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end an answer."""

    def knows(self, token: int) -> bool:
        """Whether the tokenizer has this id. A model file may have more vocabulary rows than its tokenizer has ids."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as token ids, and how its answer is to be read."""

    ids: list[int]
    output: OutputSpec


class AnswerReader(Protocol):
    """Reads one answer, id by id."""

    reason: FinishReason | None
    """Set as soon as the answer is over (``stop`` or ``tool_calls``); None while it goes on."""

    def feed(self, token: int) -> list[Event]:
        """The events that this id completes, in order; often one `Text`, sometimes none."""

    def finish(self) -> list[Event]:
        """Give out what is still held back: the answer was cut (length) or is over."""


class Format(Protocol):
    """One model family."""

    family: str
    supports_tools: bool
    image_ids: tuple[int, ...]
    """The ids that stand for an image in a prompt, one after the other; none where the family sees no images."""
    reuses_prefix: bool

    def render(self, conversation: Conversation) -> Prompt:
        """Build the prompt. Raises `PromptError` for what this family cannot be asked."""

    def render_text(self, text: str) -> list[int]:
        """The prompt of a raw completion."""

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        """A reader for the answer to a prompt with this ``output``; ``stop`` strings end it and are never given out."""

    def check(self) -> str | None:
        """Compare a plain dialogue with `Tokenizer.template`; a line that says what differs, or None."""
