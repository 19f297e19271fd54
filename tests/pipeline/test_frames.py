"""Frames arrive as they were sent, however the socket cuts them; nothing else arrives."""

from __future__ import annotations

import contextlib
import dataclasses
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    FROM_TOKENIZER,
    HEADER,
    MAX_FRAME_BYTES,
    TO_PIPELINE,
    TO_TOKENIZER,
    Cancel,
    Decoder,
    Frame,
    FrameBuffer,
    FrameError,
    GenerationEvent,
    LoadFailed,
    Ready,
    Text,
    TokenizerAnswer,
    ToPipeline,
    ToTokenizer,
    pack,
    unpack,
)

# Each decoder, and the frames that it takes.
DIRECTIONS: dict[str, tuple[Decoder[Any], Any]] = {
    "to the tokenizer": (TO_TOKENIZER, ToTokenizer),
    "to the pipeline": (TO_PIPELINE, ToPipeline),
    "from the tokenizer": (FROM_TOKENIZER, Ready | LoadFailed | TokenizerAnswer),
    "from the pipeline": (FROM_PIPELINE, Ready | LoadFailed | GenerationEvent),
}
EACH_DIRECTION = pytest.mark.parametrize(("decoder", "union"), DIRECTIONS.values(), ids=list(DIRECTIONS))
KINDS = [(decoder, kind) for decoder, union in DIRECTIONS.values() for kind in get_args(union)]
EACH_KIND = pytest.mark.parametrize(("decoder", "kind"), KINDS, ids=[kind.__name__ for _, kind in KINDS])

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    NoneType: st.none(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """All values of a type that a frame may hold."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of(*map(values, arguments))
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is tuple and arguments[-1] is not ...:
        return st.tuples(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    assert dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct), hint
    fields = {name: values(field) for name, field in get_type_hints(hint).items() if not name.startswith("_")}
    return st.fixed_dictionaries(fields).map(lambda given: hint(**given))


@EACH_KIND
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_kind_of_frame_arrives_as_it_was_sent(
    decoder: Decoder[Any], kind: type[Frame], data: st.DataObject
) -> None:
    sent = data.draw(values(kind))
    packed = pack(sent)
    assert HEADER.unpack(packed[: HEADER.size]) == (len(packed) - HEADER.size,)
    assert unpack(packed[HEADER.size :], decoder) == sent


@settings(deadline=None)
@given(st.lists(values(GenerationEvent), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_arrive_however_their_bytes_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(pack, sent))
    buffer = FrameBuffer(FROM_PIPELINE)
    received: list[Frame] = []
    position, turn = 0, 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        received += buffer.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    assert received == sent


def test_the_frames_before_one_that_does_not_fit_arrive() -> None:
    frames = FrameBuffer(TO_PIPELINE).feed(pack(Cancel(1)) + pack(Text("x", [])) + pack(Cancel(2)))
    assert next(frames) == Cancel(1)
    with pytest.raises(FrameError):
        next(frames)


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_collected() -> None:
    with pytest.raises(FrameError, match="exceeds"):
        list(FrameBuffer(TO_PIPELINE).feed(HEADER.pack(MAX_FRAME_BYTES + 1)))


@pytest.mark.parametrize(
    "body",
    [
        ["Nonsense", 1],
        ["Cancel"],
        ["Cancel", 1, 2],
        ["Cancel", "1"],
        ["Cancel", 1.0],
        ["Cancel", None],
        ["Cancel", True],
        {"Cancel": 1},
        [1],
        [],
        None,
        ["LoadModel", "file", None, 1, "fast"],
        ["Started", 1, 0, 0.0, 0],
    ],
)
def test_a_frame_that_does_not_fit_its_type_is_refused(body: object) -> None:
    with pytest.raises(FrameError, match="not a frame that this side takes"):
        unpack(msgspec.msgpack.encode(body), TO_PIPELINE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x92\xa5Ready",
        b"\xdd\xff\xff\xff\xff\xa5Ready",
        b"\x92\xaaLoadFailed\xdb\xff\xff\xff\xff",
        b"\x92\xaaLoadFailed" + b"\x91" * 100_000,
        # The value of an unknown field is skipped, however deep it is.
        b"\x92\xa5Ready\x81\xa1x" + b"\x91" * 100_000,
        # A text that is not UTF-8.
        b"\x92\xaaLoadFailed\xa1\xff",
    ],
)
def test_a_frame_that_is_cut_or_hostile_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(body, FROM_PIPELINE)


@EACH_DIRECTION
@settings(deadline=None)
@given(body=st.binary(max_size=60))
def test_random_bytes_are_a_frame_or_refused(decoder: Decoder[Any], union: Any, body: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert isinstance(unpack(body, decoder), union)


@EACH_DIRECTION
@settings(deadline=None)
@given(data=st.data())
def test_a_frame_with_some_bytes_changed_is_a_frame_or_refused(
    decoder: Decoder[Any], union: Any, data: st.DataObject
) -> None:
    body = bytearray(pack(data.draw(values(union)))[HEADER.size :])
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for changed in (bytes(body), bytes(body[:cut])):
        with contextlib.suppress(FrameError):
            assert isinstance(unpack(changed, decoder), union)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_from_a_socket_are_frames_or_refused(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert all(isinstance(frame, Frame) for frame in FrameBuffer(FROM_TOKENIZER).feed(data))


def test_the_error_does_not_quote_the_frame() -> None:
    body = msgspec.msgpack.encode(["the secret question"])
    with pytest.raises(FrameError) as refused:
        unpack(body, TO_PIPELINE)
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__
