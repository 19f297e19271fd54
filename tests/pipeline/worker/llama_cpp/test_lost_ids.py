"""What llama.cpp leaves out of a stream is found by what it says."""

from __future__ import annotations

import pytest

from glm_api.pipeline.worker.llama_cpp.lost_ids import LostIds

LOST = LostIds({b"\xe4": 1, b"\xe4\xbd": 2, b"\xbd": 3, b"\xa0": 4, b"a": 5, b"\xbd\xa0": 6, b"\xff": 7})


@pytest.mark.parametrize(
    ("text", "count", "ids"),
    [
        (b"\xe4", 1, [[1]]),
        (b"\xe4\xbd", 1, [[2]]),
        (b"\xe4\xbd", 2, [[1, 3]]),
        (b"a\xe4\xbd", 2, [[]]),
        # What was no character stays none.
        ("\ufffd".encode(), 2, [[7, 7]]),
        # There are none.
        (b"b", 1, [[]]),
        (b"a", 2, [[]]),
        (b"", 1, [[]]),
    ],
)
def test_the_ids_say_the_text(text: bytes, count: int, ids: list[list[int]]) -> None:
    assert LOST.find(text, count) in ids
