"""Dialogues and their ids in the ChatGLM3 prompt format.

The format is that of the official ChatGLM3 repository: `[gMASK]` `sop`, then for each message the role token, the
encoded metadata line and the encoded content, the last two as separate encodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

TOOLS_INTRODUCTION = "Answer the following questions as best as you can. You have access to the following tools:"
CALL_START = "```python\ntool_call("

Encode = Callable[[str], list[int]]


class Message(NamedTuple):
    """One message; `metadata` is the tool's name in an assistant message that calls a tool, else empty."""

    role: str
    content: str
    metadata: str = ""


Dialogue = list[Message]


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def system(text: str) -> Message:
    return Message("system", text)


def observation(text: str) -> Message:
    return Message("observation", text)


def tool_call(name: str, arguments: Mapping[str, Any]) -> Message:
    """Return an assistant message that calls `name`, with every value as Python's `repr` writes it."""
    keywords = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return Message("assistant", f"{CALL_START}{keywords})\n```", metadata=name)


def tools_system(tools: Sequence[Mapping[str, Any]], caller_text: str = "") -> Message:
    """Return the system message that declares `tools`, followed by the caller's own system text if there is one."""
    text = TOOLS_INTRODUCTION + "\n" + json.dumps(tools, indent=4, ensure_ascii=False)
    return system(text + "\n\n" + caller_text if caller_text else text)


class SpecialIds(NamedTuple):
    """Ids of the special tokens; ChatGLM3 places them behind the SentencePiece vocabulary in this order."""

    gmask: int
    sop: int
    system: int
    user: int
    assistant: int
    observation: int

    @classmethod
    def after(cls, num_pieces: int) -> SpecialIds:
        """`num_pieces` ids are followed by [MASK], [gMASK], [sMASK], sop, eop and the four role tokens."""
        return cls(*(num_pieces + offset for offset in (1, 3, 5, 6, 7, 8)))


NUM_SPECIAL_IDS = 9


def encode_prompt(dialogue: Sequence[Message], encode: Encode, special: SpecialIds) -> list[int]:
    """Return the ids that ask the model for the next assistant message after `dialogue`."""
    ids = [special.gmask, special.sop]
    for message in dialogue:
        ids.append(getattr(special, message.role))
        ids += encode(message.metadata + "\n") + encode(message.content)
    return [*ids, special.assistant]


def encode_for_training(
    dialogue: Sequence[Message], encode: Encode, special: SpecialIds
) -> tuple[list[int], list[bool]]:
    """Return the ids of a whole dialogue and, for each of them, whether the model has to predict it.

    The model learns what assistants write and the role token that ends it: `<|observation|>` after a call, else
    `<|user|>`.
    """
    ids, learned = [special.gmask, special.sop], [False, False]
    ends_assistant_message = False
    for message in dialogue:
        ids.append(getattr(special, message.role))
        learned.append(ends_assistant_message and message.role != "assistant")
        body = encode(message.metadata + "\n") + encode(message.content)
        ends_assistant_message = message.role == "assistant"
        ids += body
        learned += [ends_assistant_message] * len(body)
    if ends_assistant_message:
        ids.append(special.observation if dialogue[-1].metadata else special.user)
        learned.append(True)
    return ids, learned
