"""Text is streamed as soon as its characters are complete."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.formats.detokenizer import Detokenizer
from tests.support.model_files.scripted_tokenizer import ScriptedTokenizer, splits, whole_characters


def decode(pieces: list[bytes]) -> list[str]:
    tokenizer = ScriptedTokenizer()
    detokenizer = Detokenizer(tokenizer)
    return [detokenizer.feed(tokenizer.token(piece)) for piece in pieces]


@given(st.lists(st.binary(max_size=6)))
def test_the_joined_text_is_one_decode_of_all_bytes(pieces: list[bytes]) -> None:
    assert "".join(decode(pieces)) == whole_characters(b"".join(pieces))


@given(splits(st.text()))
def test_at_most_an_incomplete_character_is_held_back(pieces: list[bytes]) -> None:
    fed = shown = b""
    for piece, text in zip(pieces, decode(pieces), strict=True):
        fed += piece
        shown += text.encode()
        assert shown == fed.decode(errors="ignore").encode()
        assert len(fed) - len(shown) <= 3


def test_bytes_that_cannot_become_a_character_are_replaced_at_once() -> None:
    assert decode([b"\xe4", b"A", b"\xff"]) == ["", "\ufffdA", "\ufffd"]


def test_flush_replaces_an_incomplete_character_and_forgets_it() -> None:
    tokenizer = ScriptedTokenizer()
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.feed(tokenizer.token(piece)) for piece in (b"\xf0\x9f", b"\x99")] == ["", ""]
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""
    assert detokenizer.feed(tokenizer.token("a")) == "a"
