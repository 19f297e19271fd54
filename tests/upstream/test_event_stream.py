"""A stream of server-sent events is cut into the same events, whatever pieces its bytes come in."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.errors import ApiError
from glm_api.upstream.event_stream import LARGEST_EVENT, EventSplitter

STREAMS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\n", b"data: x", b": ping", b"event", b"\xef\xbb\xbf", "你".encode()]),
    max_size=20,
).map(b"".join)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted(place for place in cuts if place <= len(data))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def split(pieces: Iterable[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece) if event]


def split_whole(data: bytes) -> list[bytes]:
    """The standard's grammar, over a whole stream; an event that no empty line ends is none."""
    *lines, _ = re.split(b"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))
    events: list[list[bytes]] = [[]]
    for line in lines:
        if line:
            events[-1].append(line)
        elif events[-1]:
            events.append([])
    return [b"\n".join(event) for event in events[:-1]]


@given(data=STREAMS, cuts=st.lists(st.integers(0, 100)))
def test_the_events_are_those_of_the_standard_however_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    assert split(cut(data, cuts)) == split_whole(data)


@given(data=STREAMS, cuts=st.lists(st.integers(0, 100)))
def test_the_end_gives_the_event_that_an_empty_line_would_have_ended(data: bytes, cuts: list[int]) -> None:
    splitter = EventSplitter()
    events = [event for piece in cut(data, cuts) for event in splitter.feed(piece)]
    assert [event for event in [*events, splitter.end()] if event] == split_whole(data + b"\n\n")


def test_the_events_before_one_that_is_too_large_are_given() -> None:
    events = EventSplitter().feed(b"data: x\n\n" + b"x" * (LARGEST_EVENT + 1))
    assert next(events) == b"data: x"
    with pytest.raises(ApiError):
        next(events)


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_complete_with_the_byte_that_ends_its_empty_line(line_end: bytes) -> None:
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: x" + line_end)) == []
    assert list(splitter.feed(line_end[:1])) == [b"data: x"]
    assert list(splitter.feed(line_end[1:] + b"data: y" + line_end * 2))[-1] == b"data: y"


def test_a_large_event_in_small_pieces_takes_time_with_its_size_only() -> None:
    # In time with the square of the size this would take many minutes.
    event = b"x" * (LARGEST_EVENT - 1)
    pieces = [*(event[at : at + 16] for at in range(0, len(event), 16)), b"\n", b"\n"]
    assert split(pieces) == [event]


@pytest.mark.parametrize("size", [16, 65536, LARGEST_EVENT * 2])
def test_an_event_beyond_the_bound_is_refused_when_it_passes_it(size: int) -> None:
    splitter = EventSplitter()
    for _ in range(LARGEST_EVENT // size):
        assert list(splitter.feed(b"x" * size)) == []
    with pytest.raises(ApiError) as refused:
        list(splitter.feed(b"x" * size))
    assert (refused.value.status, refused.value.code) == (502, "upstream_error")


def test_the_bound_is_for_one_event_not_for_all() -> None:
    event = b"x" * (LARGEST_EVENT // 2)
    assert split([event, b"\n\n"] * 5) == [event] * 5
