"""The messages between the web process and its children, both directions in one file.

A frame is a 4-byte big-endian length and a JSON array: the message's tag, then its fields in order. The two
sides are always of the same version (one starts the other), so there is no negotiation.

The web process has two children. The *tokenizer* turns conversations into token ids and back at any time; the
*pipeline* evaluates token ids and is busy for as long as a prompt takes.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
# How prompts are read: token by token, in one call, or whichever is cheaper; see `worker.evaluation`.
PrefillMode = Literal["auto", "step", "batch"]

# A prompt of 128k tokens is below 1 MB of JSON; an image of the largest size that is admitted is below 32 MB.
MAX_FRAME_BYTES = 64 * 1024 * 1024
HEADER = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Frame:
    """Base of all frames: subclasses are flat dataclasses of JSON values."""

    TAG: ClassVar[str] = ""


# --- web process -> both children ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Open(Frame):
    """Load the model file. ``max_length`` is the context in tokens, None for the model's own."""

    TAG: ClassVar[str] = "open"
    model: str
    max_length: int | None
    cache_slots: int
    prefill: PrefillMode


# --- web process -> tokenizer -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EncodeChat(Frame):
    """Build the prompt of a conversation (see `conversation_to_json`), of at most ``most`` tokens.

    Answered by `Encoded`, `TooLong` or `Rejected`.
    """

    TAG: ClassVar[str] = "encode_chat"
    id: int
    conversation: dict[str, Any]
    most: int


@dataclass(frozen=True, slots=True)
class EncodeText(Frame):
    """Encode plain text into at most ``most`` tokens. ``prefix``: with the ids that open every prompt, as a raw
    completion needs them. Answered by `Encoded` or `TooLong`."""

    TAG: ClassVar[str] = "encode_text"
    id: int
    text: str
    prefix: bool
    most: int


@dataclass(frozen=True, slots=True)
class DecodeIds(Frame):
    """Turn ids into text, special tokens shown; ``apart``: each id by itself. Answered by `Decoded` or `Rejected`."""

    TAG: ClassVar[str] = "decode"
    id: int
    ids: list[int]
    apart: bool


# --- tokenizer -> web process -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded(Frame):
    """Token ids; for a conversation also how its answer is to be read (`OutputSpec` as JSON)."""

    TAG: ClassVar[str] = "encoded"
    id: int
    ids: list[int]
    output: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TooLong(Frame):
    """It would be ``tokens`` ids, or ``at_least`` that many, and that is more than were asked for."""

    TAG: ClassVar[str] = "too_long"
    id: int
    tokens: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class Decoded(Frame):
    """One text, or one for each id."""

    TAG: ClassVar[str] = "decoded"
    id: int
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Rejected(Frame):
    """The conversation or the ids cannot be put to this model; ``param`` is a dotted path or None."""

    TAG: ClassVar[str] = "rejected"
    id: int
    message: str
    param: str | None


# --- web process -> pipeline --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Generate(Frame):
    """Answer each prompt, one after the other. For each prompt there is one of ``sizes``, what it takes of the context
    in tokens (more than it has ids when it shows an image), and one of ``limits``, in new tokens.

    ``output`` is an `OutputSpec` as JSON, the same for all prompts. ``image`` is a base64 PNG or JPEG file or None.
    """

    TAG: ClassVar[str] = "generate"
    id: int
    prompts: list[list[int]]
    sizes: list[int]
    limits: list[int]
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    stop: list[str]
    output: dict[str, Any]
    image: str | None
    progress: bool


@dataclass(frozen=True, slots=True)
class Cancel(Frame):
    """Stop the generation ``id``; it answers with `Finished`, reason ``cancelled``."""

    TAG: ClassVar[str] = "cancel"
    id: int


# --- both children -> web process ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready(Frame):
    """The model is open. ``info`` is a `ModelInfo` as JSON."""

    TAG: ClassVar[str] = "ready"
    info: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadFailed(Frame):
    """The model cannot be opened; ``message`` is one line for the operator."""

    TAG: ClassVar[str] = "load_failed"
    message: str


# --- pipeline -> web process: the events of an answer -------------------------------------------------------------
# For each prompt: Started, any number of Progress/Text/ToolCallStarted/ToolArguments, then Finished. Failed ends all.


@dataclass(frozen=True, slots=True)
class Event(Frame):
    """Base of the events of a generation. In some, ``ids`` are the generated token ids that the event stands for."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A prompt's evaluation begins; ``cached_tokens`` of it need none. The first ``batch_tokens`` are evaluated in one
    call, during which the process says nothing, for about ``batch_ms`` milliseconds (0: not measured yet)."""

    TAG: ClassVar[str] = "started"
    prompt_tokens: int
    cached_tokens: int
    batch_ms: float
    batch_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Alive(Event):
    """The process works on an answer and has nothing to send yet."""

    TAG: ClassVar[str] = "alive"


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Progress of the prompt's evaluation, in tokens, including cached ones."""

    TAG: ClassVar[str] = "progress"
    processed: int
    total: int
    cached: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Text(Event):
    TAG: ClassVar[str] = "text"
    text: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class ToolCallStarted(Event):
    TAG: ClassVar[str] = "tool_call"
    index: int
    call_id: str
    name: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class ToolArguments(Event):
    """A piece of the JSON text of the arguments of call ``index``."""

    TAG: ClassVar[str] = "tool_arguments"
    index: int
    text: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """One prompt is answered. Times are in milliseconds; ``held`` is what the cache slot holds now, in tokens."""

    TAG: ClassVar[str] = "finished"
    reason: FinishReason
    completion_tokens: int
    prompt_ms: float
    predicted_ms: float
    slot: int
    held: int


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The generation has failed. ``kind``: ``answer`` (`AnswerError`), ``prompt`` (`PromptError`) or ``engine``."""

    TAG: ClassVar[str] = "failed"
    kind: Literal["answer", "prompt", "engine"]
    message: str


def _all_frames(base: type[Frame]) -> dict[str, type[Frame]]:
    found = {base.TAG: base} if base.TAG else {}
    for sub in base.__subclasses__():
        found |= _all_frames(sub)
    return found


_BY_TAG = _all_frames(Frame)
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in _BY_TAG.values()}
_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def pack(frame: Frame) -> bytes:
    """The frame as bytes, header included."""
    body = _encode_json([frame.TAG, *(getattr(frame, name) for name in _FIELDS[type(frame)])]).encode()
    return HEADER.pack(len(body)) + body


def unpack(body: bytes | memoryview) -> Frame:
    """The frame in ``body`` (without its header). Raises ValueError when it is none."""
    tag, *values = json.loads(bytes(body))
    try:
        return _BY_TAG[tag](*values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a frame: {tag!r}") from error


class FrameBuffer:
    """Collects bytes as they arrive and gives back whole frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Add ``data``; the frames that are complete now, in order. Raises ValueError on a frame that is too large."""
        self._bytes += data
        found: list[Frame] = []
        start = 0
        while len(self._bytes) - start >= HEADER.size:
            (length,) = HEADER.unpack_from(self._bytes, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes exceeds {MAX_FRAME_BYTES}")
            end = start + HEADER.size + length
            if len(self._bytes) < end:
                break
            found.append(unpack(memoryview(self._bytes)[start + HEADER.size : end]))
            start = end
        if start:
            del self._bytes[:start]
        return found
