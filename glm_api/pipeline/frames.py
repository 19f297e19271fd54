"""The messages between the web process and its two children, both directions in one file.

A frame is a 4-byte big-endian length and a body: the fields of a message as a MessagePack array, headed by the name of
its class. Each receiver has a decoder for the messages that it takes, and refuses all others with `FrameError`. The two
sides always run the same version, because one starts the other; so they negotiate nothing.

The *tokenizer* process turns conversations into token ids, and ids into text, at any time. The *pipeline* process
evaluates token ids; it is busy for as long as a prompt takes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

import msgspec

from glm_api.pipeline.conversation import Conversation, StructuredOutput
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import ModelInfo, OutputSpec

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
# The program that computes.
EngineName = Literal["chatglm-cpp", "llama-cpp"]
# How prompts are read: token by token, in one call, or whichever is cheaper; see `worker.evaluation`.
PrefillMode = Literal["auto", "step", "batch"]

# A prompt of 128k tokens takes less than 1 MB, and the largest image that is admitted less than 32 MB.
MAX_FRAME_BYTES = 64 * 1024 * 1024
# How much is read from a socket at once.
RECEIVE_BYTES = 256 * 1024
HEADER = struct.Struct(">I")


class FrameError(ValueError):
    """What arrived is no frame, or none that this side takes."""


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages."""


# --- web process -> both children ---------------------------------------------------------------------------------


class LoadModel(Frame, frozen=True):
    """Load the model file; the first frame that a child gets. It answers with `Ready` or `LoadFailed`.

    ``max_length`` is the length of the context in tokens, None for the model's own. The child computes with at most
    ``threads`` threads. ``prefill`` is for chatglm-cpp; for llama.cpp are ``projector``, the file of a projector for
    images, and ``gpu_layers``, the number of layers that a GPU computes, None for as many as fit.
    """

    model: str
    max_length: int | None
    cache_slots: int
    prefill: PrefillMode
    threads: int
    engine: EngineName = "chatglm-cpp"
    projector: str | None = None
    gpu_layers: int | None = None


# --- web process -> tokenizer -------------------------------------------------------------------------------------


class EncodeChat(Frame, frozen=True):
    """Build the prompt of a conversation, of at most ``most`` tokens; answered by `Encoded`, `TooLong` or `Rejected`.

    The conversation is one of `without_images`.
    """

    id: int
    conversation: Conversation
    most: int


class EncodeText(Frame, frozen=True):
    """Encode plain text into at most ``most`` tokens; answered by `Encoded`, `TooLong` or `Rejected`.

    ``prefix`` adds the ids that open every prompt, as a raw completion needs them. ``structured`` is what the answer to
    such a prompt must be.
    """

    id: int
    text: str
    prefix: bool
    most: int
    structured: StructuredOutput | None = None


class DecodeIds(Frame, frozen=True):
    """Turn ids into text, special tokens shown; answered by `Decoded` or `Rejected`."""

    id: int
    ids: list[int]


# --- tokenizer -> web process -------------------------------------------------------------------------------------


class Encoded(Frame, frozen=True):
    """The token ids of a conversation or a text. ``output`` says how to read the answer to such a prompt."""

    id: int
    ids: list[int]
    output: OutputSpec


class TooLong(Frame, frozen=True):
    """The prompt or text has more tokens than were asked for: ``tokens``, or ``at_least`` that many."""

    id: int
    tokens: int
    at_least: bool


class Decoded(Frame, frozen=True):
    """The UTF-8 bytes that each of the ids adds to the text of all."""

    id: int
    pieces: list[bytes]


class Rejected(Frame, frozen=True):
    """There is no answer to this conversation or these ids. ``kind``: ``prompt`` if the client can change that
    (`PromptError`; ``param`` is the dotted path of the faulty value), or ``engine`` (`EngineError`)."""

    id: int
    kind: Literal["prompt", "engine"]
    message: str
    param: str | None = None


# --- web process -> pipeline --------------------------------------------------------------------------------------


class Generate(Frame, frozen=True):
    """Answer each prompt, one after the other.

    When a process has died at this work, ``answered`` of the prompts are answered, and ``fed`` are the ids that the
    answer to the next one begins with: the web process has all events that they complete.

    There is one of ``sizes`` for each prompt, the tokens that it takes of the context (more than it has ids when it
    shows an image), and one of ``limits``, the most new tokens. The rest is the same for all prompts. ``image`` is the
    undecoded PNG or JPEG file that the prompt shows.
    """

    id: int
    prompts: list[list[int]]
    sizes: list[int]
    limits: list[int]
    sampling: Sampling
    stop: tuple[str, ...]
    output: OutputSpec
    image: bytes | None
    progress: bool
    answered: int = 0
    fed: list[int] = []


class Cancel(Frame, frozen=True):
    """Stop the generation ``id``; it answers with `Finished`, reason ``cancelled``."""

    id: int


# --- both children -> web process ---------------------------------------------------------------------------------


class Ready(Frame, frozen=True):
    """The child has loaded the model and takes requests."""

    info: ModelInfo


class LoadFailed(Frame, frozen=True):
    """The child cannot load the model; ``message`` is one line for the operator."""

    message: str


# --- pipeline -> web process: the events of an answer -------------------------------------------------------------
# Each comes in a GenerationEvent. For each prompt: Started, any number of
# Alive/Progress/Reasoning/Text/ToolCallStarted/ToolArguments, then Finished. Failed ends all prompts. PromptLogprobs
# comes before the first Text.


class Event(Frame, frozen=True):
    """Base of the events of a generation.

    ``ids``, where an event has them, are the generated tokens that it stands for. ``fed`` are all tokens that have been
    generated since the last event that had some: these events, and those before, are all that they complete.
    """


class Started(Event, frozen=True):
    """A prompt's evaluation begins; ``cached_tokens`` of it need none. ``slot`` is None if that is not known."""

    prompt_tokens: int
    cached_tokens: int
    slot: int | None = None


class Alive(Event, frozen=True):
    """The process computes and has nothing else to send."""


class Progress(Event, frozen=True):
    """How many tokens of the prompt have been ``processed``, ``cached`` ones included, in how many milliseconds."""

    processed: int
    total: int
    cached: int
    milliseconds: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """What the model thought of a token: the natural logarithm of its probability, before anything changed the logits.

    ``piece`` are the bytes that the token adds to a text, which may be a part of a character. A special token adds
    none; its name stands for it. ``top`` are the likeliest tokens in its place, with their pieces and logarithms, the
    likeliest first.
    """

    id: int
    piece: bytes
    logprob: float
    top: list[tuple[int, bytes, float]]


class PromptLogprobs(Event, frozen=True):
    """The tokens of the prompt from the second on; sent once, before the answer, when the job asked for them."""

    logprobs: list[TokenLogprob]


class Text(Event, frozen=True):
    """A piece of the answer's text. ``logprobs``, when asked for, has an entry for each of ``ids``.

    Of ids at whose end the text is inside a character llama.cpp tells none.
    """

    text: str
    ids: list[int]
    logprobs: list[TokenLogprob] = []
    fed: list[int] = []


class Reasoning(Event, frozen=True):
    """A piece of what the model thinks before it answers; it is no part of the answer's text."""

    text: str
    ids: list[int]
    fed: list[int] = []


class ToolCallStarted(Event, frozen=True):
    """The answer calls the tool ``name``; ``index`` counts the calls of the answer from 0."""

    index: int
    call_id: str
    name: str
    ids: list[int]
    fed: list[int] = []


class ToolArguments(Event, frozen=True):
    """A piece of the JSON text of the arguments of call ``index``."""

    index: int
    text: str
    ids: list[int]
    fed: list[int] = []


class Finished(Event, frozen=True):
    """One prompt is answered. Times are in milliseconds; ``slot_tokens`` is what the cache ``slot`` holds now;
    ``slot`` is None if that is not known.

    ``step_threads`` and ``batch_threads`` are the numbers of threads that compute one token, and a prompt in one call.
    ``embedding`` is what was asked for instead of an answer: 32-bit floats, little-endian. ``stop_string`` is the one
    that ended the answer; empty if none did.
    """

    reason: FinishReason
    completion_tokens: int
    prompt_ms: float
    predicted_ms: float
    slot: int | None
    slot_tokens: int
    step_threads: int = 1
    batch_threads: int = 1
    embedding: bytes = b""
    stop_string: str = ""


class Failed(Event, frozen=True):
    """The generation has failed. ``kind``: ``prompt`` (`PromptError`, with ``param``) or ``engine`` (`EngineError`)."""

    kind: Literal["prompt", "engine"]
    message: str
    param: str | None = None


PipelineEvent = (
    Started | Alive | Progress | PromptLogprobs | Text | Reasoning | ToolCallStarted | ToolArguments | Finished | Failed
)


class GenerationEvent(Frame, frozen=True):
    """``event`` belongs to the generation ``id``."""

    id: int
    event: PipelineEvent


# --- who takes what -----------------------------------------------------------------------------------------------

TokenizerQuestion = EncodeChat | EncodeText | DecodeIds
ToTokenizer = LoadModel | TokenizerQuestion
ToPipeline = LoadModel | Generate | Cancel
TokenizerAnswer = Encoded | TooLong | Decoded | Rejected

F = TypeVar("F")
Decoder = msgspec.msgpack.Decoder

TO_TOKENIZER: Decoder[ToTokenizer] = Decoder(ToTokenizer)
TO_PIPELINE: Decoder[ToPipeline] = Decoder(ToPipeline)
FROM_TOKENIZER: Decoder[Ready | LoadFailed | TokenizerAnswer] = Decoder(Ready | LoadFailed | TokenizerAnswer)
FROM_PIPELINE: Decoder[Ready | LoadFailed | GenerationEvent] = Decoder(Ready | LoadFailed | GenerationEvent)

_encode = msgspec.msgpack.Encoder().encode


def pack(frame: Frame) -> bytes:
    """Return the frame as bytes, header included.

    Raises UnicodeEncodeError for text with half of a surrogate pair, and OverflowError for an integer beyond 64 bits.
    The endpoints accept neither.
    """
    body = _encode(frame)
    return HEADER.pack(len(body)) + body


def unpack(body: bytes, decoder: Decoder[F]) -> F:
    """Return the frame in ``body``, which has no header. Raises `FrameError` for one that ``decoder`` does not take."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):
        # The cause is left out: its message may quote what a client sent.
        raise FrameError("not a frame that this side takes") from None


class FrameBuffer(Generic[F]):
    """Collects bytes as they arrive and cuts them into frames."""

    def __init__(self, decoder: Decoder[F]) -> None:
        self._decoder = decoder
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[F]:
        """Add ``data`` and yield the frames that are complete now, in order.

        Raises `FrameError` at a frame that is too large or that the decoder does not take. The buffer is of no more use
        then.
        """
        self._bytes += data
        start = 0
        try:
            while len(self._bytes) - start >= HEADER.size:
                (length,) = HEADER.unpack_from(self._bytes, start)
                if length > MAX_FRAME_BYTES:
                    raise FrameError(f"a frame of {length} bytes exceeds {MAX_FRAME_BYTES}")
                begin, end = start + HEADER.size, start + HEADER.size + length
                if len(self._bytes) < end:
                    break
                start = end
                yield unpack(bytes(memoryview(self._bytes)[begin:end]), self._decoder)
        finally:
            del self._bytes[:start]
