"""ChatGLM's Chinese punctuation in a stream."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.formats.punctuation import ChinesePunctuation

TEXTS = st.text(alphabet="ab ,!:;?中国，\n", max_size=12)


def official(text: str) -> str:
    """``process_response`` of modeling_chatglm.py."""
    for mark, full_width in zip(",!:;?", "，！：；？", strict=True):
        text = re.sub(rf"([\u4e00-\u9fff])\{mark}", rf"\1{full_width}", text)
        text = re.sub(rf"\{mark}([\u4e00-\u9fff])", rf"{full_width}\1", text)
    return text


@given(st.lists(TEXTS))
def test_any_split_gives_the_result_of_the_official_code(pieces: list[str]) -> None:
    punctuation = ChinesePunctuation()
    streamed = "".join([punctuation.feed(piece) for piece in pieces]) + punctuation.flush()
    assert streamed == official("".join(pieces))


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["你好", ",", "世界"], ["你好", "，", "世界"]),
        (["hello,", " world"], ["hello", ", world"]),
        (["a,", "中"], ["a", "，中"]),
        (["3:", "4"], ["3", ":4"]),
    ],
)
def test_a_mark_waits_only_when_the_next_character_decides(pieces: list[str], shown: list[str]) -> None:
    punctuation = ChinesePunctuation()
    assert [punctuation.feed(piece) for piece in pieces] == shown
