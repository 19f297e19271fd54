"""Stop strings end an answer wherever the tokens cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.formats.stop import StopStrings

ALPHABET = "ab你"
STOPS = st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=4)


def stream(stops: list[str], pieces: list[str]) -> tuple[list[str], str]:
    matcher = StopStrings(stops)
    shown = [matcher.feed(piece) for piece in pieces]
    return [*shown, matcher.flush()], matcher.found


@given(STOPS, st.lists(st.text(ALPHABET, max_size=3), max_size=12))
def test_however_a_text_is_split_it_ends_at_the_earliest_stop_string(stops: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    found = [text.find(stop) for stop in stops if stop in text]
    shown, stopped = stream(stops, pieces)
    assert "".join(shown) == (text[: min(found)] if found else text)
    assert bool(stopped) == bool(found)
    if found:
        assert text.startswith(stopped, min(found))


@given(st.text(ALPHABET, min_size=1, max_size=5), st.lists(st.sampled_from(ALPHABET), max_size=15))
def test_only_a_possible_beginning_of_a_stop_string_is_held_back(stop: str, pieces: list[str]) -> None:
    matcher = StopStrings([stop])
    fed = shown = ""
    for piece in pieces:
        fed += piece
        shown += matcher.feed(piece)
        if matcher.found:
            break
        longest = max(length for length in range(len(stop)) if fed.endswith(stop[:length]))
        assert fed == shown + stop[:longest]


def test_an_incomplete_stop_string_wins_over_a_complete_later_one() -> None:
    assert stream(["abcd", "bc"], ["x", "abc", "d"]) == (["x", "", "", ""], "abcd")
    assert stream(["abcd", "bc"], ["x", "abc", "e"]) == (["x", "", "a", ""], "bc")
    assert stream(["abcd", "bc"], ["x", "abc"]) == (["x", "", "a"], "bc")


@pytest.mark.parametrize("pieces", [["STOP"], ["S", "T", "O", "P"], ["STOP and more", "text"]])
def test_a_stop_string_at_the_very_beginning_leaves_nothing(pieces: list[str]) -> None:
    shown, found = stream(["STOP"], pieces)
    assert "".join(shown) == ""
    assert found == "STOP"


def test_text_without_stop_strings_is_not_delayed() -> None:
    assert stream(["\n\nHuman:"], ["Hello", " world", "."])[0] == ["Hello", " world", ".", ""]
