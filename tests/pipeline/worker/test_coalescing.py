"""Tokens that are ready together are sent together; nothing is lost or reordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.frames import Event, Frame, GenerationEvent, Reasoning, Text, ToolArguments
from glm_api.pipeline.worker.coalescing import HOLD_SECONDS, EventWriter


class Recorder:
    def __init__(self) -> None:
        self.sent: list[Event] = []

    def send(self, frame: Frame) -> None:
        assert isinstance(frame, GenerationEvent)
        assert frame.id == 7
        self.sent.append(frame.event)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("glm_api.pipeline.worker.coalescing.time.perf_counter", lambda: now[0])
    return now


def test_the_first_token_is_sent_at_once(clock: list[float]) -> None:
    recorder = Recorder()
    EventWriter(recorder, 7).put([Text("a", [1])])
    assert recorder.sent == [Text("a", [1])]


def test_tokens_of_the_same_moment_share_a_frame(clock: list[float]) -> None:
    recorder = Recorder()
    writer = EventWriter(recorder, 7)
    for token in range(4):
        writer.put([Text(str(token), [token])])
    clock[0] += 2 * HOLD_SECONDS
    writer.put([Text("4", [4])])
    assert recorder.sent == [Text("0", [0]), Text("1234", [1, 2, 3, 4])]


def test_tokens_that_are_far_apart_are_sent_at_once(clock: list[float]) -> None:
    recorder = Recorder()
    writer = EventWriter(recorder, 7)
    for token in range(3):
        writer.put([Text(str(token), [token])])
        clock[0] += 2 * HOLD_SECONDS
    assert len(recorder.sent) == 3


def test_reasoning_is_sent_at_once_with_what_was_fed(clock: list[float]) -> None:
    recorder = Recorder()
    writer = EventWriter(recorder, 7)
    for token in (1, 2):
        writer.feed(token)
    writer.put([Reasoning("a", [2])])
    writer.feed(3)
    writer.put([Reasoning("b", [3])])
    assert recorder.sent == [Reasoning("a", [2], fed=[1, 2]), Reasoning("b", [3], fed=[3])]


events = st.one_of(
    st.builds(Text, st.text("ab", min_size=1, max_size=3), st.lists(st.integers(0, 9), max_size=2)),
    st.builds(Reasoning, st.text("ef", max_size=3), st.lists(st.integers(0, 9), max_size=2)),
    st.builds(ToolArguments, st.just(0), st.text("cd", max_size=3), st.lists(st.integers(0, 9), max_size=2)),
)


@given(st.lists(st.lists(events, max_size=3), max_size=10))
def test_nothing_is_lost_or_reordered(batches: list[list[Event]]) -> None:
    recorder = Recorder()
    writer = EventWriter(recorder, 7)
    for batch in batches:
        writer.put(batch)
    writer.flush()

    def flat(frames: list[Event]) -> tuple[str, list[int]]:
        whole = [frame for frame in frames if isinstance(frame, (Text, Reasoning, ToolArguments))]
        return "".join(frame.text for frame in whole), [token for frame in whole for token in frame.ids]

    assert flat(recorder.sent) == flat([event for batch in batches for event in batch])
