"""The interface of a model family's format.

A format turns a conversation into the token ids that the family was trained on, and token ids back into text and
tool calls. It sees the tokenizer through `Tokenizer`, never chatglm_cpp itself, so it can be tested with scripted ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glm_api.pipeline.conversation import Conversation, StructuredOutput
from glm_api.pipeline.frames import Event, FinishReason
from glm_api.pipeline.model_info import OutputSpec


class Tokenizer(Protocol):
    """The part of chatglm_cpp's tokenizers that formats need."""

    def encode(self, text: str) -> list[int]:
        """Return ordinary text as ids. None of them is special, whatever the text is."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the UTF-8 bytes that ``ids`` add to a text, without special and unknown ids. Never raises.

        ``decode(a + b) == decode(a) + decode(b)``. So a character may be cut between two ids, and the space in front of
        a word is kept even at the beginning of a text.
        """

    def role(self, name: str) -> int:
        """Return the id of ``<|name|>`` (system, user, assistant, observation).

        Raises KeyError where the family has none.
        """

    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of (role, content) pairs by chatglm_cpp's own chat template, uncut.

        A format must give a plain dialogue the same ids.
        """

    @property
    def prefix(self) -> list[int]:
        """The special ids that open every prompt (with ChatGLM-6B: that close it)."""

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end an answer."""

    def knows(self, token: int) -> bool:
        """Return whether the tokenizer has this id. A model may have more vocabulary rows than its tokenizer ids."""

    def refusal(self, grammar: str) -> str | None:
        """Return why no answer can be held to this Lark grammar, in the words of llguidance; None if one can."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as token ids, and how to read its answer."""

    ids: list[int]
    output: OutputSpec


class AnswerReader(Protocol):
    """Reads one answer, id by id."""

    reason: FinishReason | None
    """``stop`` or ``tool_calls`` as soon as the answer is over, None until then."""

    @property
    def stop_string(self) -> str:
        """The stop string that ended the answer; empty if none did."""

    @property
    def in_call(self) -> bool:
        """Whether the next id may belong to a tool call, which only the model's own end ids end."""

    def feed(self, token: int) -> list[Event]:
        """Return the events that this id completes, in order: often one `Text`, sometimes none."""

    def finish(self) -> list[Event]:
        """Return the events that are still held back; the answer is over, or was cut at its length."""


class Format(Protocol):
    """One model family."""

    family: str
    supports_tools: bool
    image_ids: tuple[int, ...]
    """The ids that stand for an image in a prompt, one after the other; empty if the family accepts no images."""
    reuses_prefix: bool
    """Whether the evaluation of a prompt may continue a cached prefix."""

    def render(self, conversation: Conversation) -> Prompt:
        """Build the prompt. Raises `PromptError` for a conversation that this family cannot take."""

    def render_text(self, text: str) -> list[int]:
        """Return the prompt of a raw completion."""

    def text_output(self, structured: StructuredOutput | None) -> OutputSpec:
        """Return how to read the answer to such a prompt. Raises `PromptError` for one that cannot be enforced."""

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        """Return a reader for the answer to a prompt with this ``output``.

        A ``stop`` string ends the answer and is not a part of it.
        """

    def check(self) -> str | None:
        """Compare a plain dialogue with `Tokenizer.template`. Return a line about the difference, or None."""
