"""Frames survive the way through the socket, however it cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.frames import (
    HEADER,
    MAX_FRAME_BYTES,
    Cancel,
    Finished,
    Frame,
    FrameBuffer,
    Started,
    Text,
    ToolArguments,
    pack,
    unpack,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
ids = st.lists(st.integers(0, 200_000), max_size=5)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Text, texts, ids),
    st.builds(ToolArguments, st.integers(0, 3), texts, ids),
    st.builds(Cancel, st.integers(0, 2**40)),
    st.builds(Started, st.integers(0, 9999), st.integers(0, 9999), st.floats(0, 1e6)),
    st.builds(
        Finished, st.just("stop"), st.integers(0, 9), st.floats(0, 9), st.floats(0, 9), st.just(0), st.integers(0, 9)
    ),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_any_split_of_the_bytes_gives_the_frames_back(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(pack, sent))
    buffer = FrameBuffer()
    received: list[Frame] = []
    position, turn = 0, 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        received += buffer.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    assert received == sent


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_collected() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        FrameBuffer().feed(HEADER.pack(MAX_FRAME_BYTES + 1))


@pytest.mark.parametrize("body", [b'["nonsense",1]', b'["cancel"]', b'["cancel",1,2]'])
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        unpack(body)
