"""Text streams as soon as its characters are whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.formats.detokenizer import Detokenizer
from tests.models.scripted import ScriptedTokenizer, splits


def decode(pieces: list[bytes]) -> list[str]:
    tokenizer = ScriptedTokenizer()
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.feed(tokenizer.token(piece)) for piece in pieces), detokenizer.flush()]


@given(st.lists(st.binary(max_size=6)))
def test_the_joined_text_is_one_decode_of_all_bytes(pieces: list[bytes]) -> None:
    assert "".join(decode(pieces)) == b"".join(pieces).decode(errors="replace")


@given(splits(st.text()))
def test_never_more_than_an_unfinished_character_is_held_back(pieces: list[bytes]) -> None:
    fed = shown = b""
    for piece, text in zip(pieces, decode(pieces), strict=False):
        fed += piece
        shown += text.encode()
        assert shown == fed.decode(errors="ignore").encode()
        assert len(fed) - len(shown) <= 3


def test_bytes_that_cannot_become_a_character_are_not_waited_for() -> None:
    assert decode([b"\xe4", b"A", b"\xff"]) == ["", "\ufffdA", "\ufffd", ""]


def test_a_cut_character_is_shown_as_such_at_the_end() -> None:
    assert decode([b"\xf0\x9f", b"\x99"]) == ["", "", "\ufffd"]
