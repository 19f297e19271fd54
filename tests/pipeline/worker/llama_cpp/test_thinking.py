"""Thinking is told from text however the answer is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.worker.llama_cpp.thinking import ThinkingSplitter


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkingSplitter()
    found = [splitter.feed(piece) for piece in pieces]
    return "".join(thought for thought, _ in found) + splitter.flush(), "".join(text for _, text in found)


@pytest.mark.parametrize(
    ("answer", "thought", "text"),
    [
        ("One.</think>Two.", "One.", "Two."),
        ("</think>Two.", "", "Two."),
        ("One.", "One.", ""),
        ("a < b </thin", "a < b </thin", ""),
        ("a</think>b</think>c", "a", "b</think>c"),
        ("a<</think>b", "a<", "b"),
    ],
)
def test_what_is_in_front_of_the_end_is_thought(answer: str, thought: str, text: str) -> None:
    assert split([answer]) == (thought, text)
    assert split(list(answer)) == (thought, text)


@given(st.text("</think>ab"), st.data())
def test_it_does_not_matter_where_an_answer_is_cut(answer: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    pieces = [answer[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert split(pieces) == split([answer])


def test_thinking_is_told_as_soon_as_it_is_certain() -> None:
    splitter = ThinkingSplitter()
    assert splitter.feed("Let me see") == ("Let me see", "")
    assert splitter.feed(" <") == (" ", "")
    assert splitter.feed("b") == ("<b", "")
