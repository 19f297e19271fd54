"""The lower bound of a text's number of tokens, and the limit of encodings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_api.pipeline.worker.chatglm_cpp.tokenizer import PipelineTokenizer
from glm_api.pipeline.worker.lengths import Lengths, lengths
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.tokenizer import LimitedTokenizer, TooManyTokens
from glm_api.pipeline.worker.vocabulary import read_vocabulary
from tests.support.model_files import real_vocabularies, tokenizers
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.writer import FAMILIES, Family

every = pytest.mark.parametrize("family", FAMILIES)
OpenModelFactory = Callable[..., OpenModel]


def lengths_of(path: Path) -> Lengths:
    return lengths(read_vocabulary(inspect(path)))


def limited_of(model: OpenModel) -> LimitedTokenizer:
    return PipelineTokenizer(model.pipeline, inspect(model.path))


# Runs of pieces of long tokens, of characters that are dropped or composed, and of any characters.
SPELLED = ["[gMASK]", "<sop>", "<|blank_80|>", "<n>", "<unk>", "習近平", "▁", "hello", " get_weather", "今天天气"]
RUN = st.builds(
    lambda text, times: text * times,
    st.one_of(
        st.sampled_from(
            [*SPELLED, " ", "  ", "\n", "\t", "\u3000", "\u00a0", "\u200b", "\ufeff", "e\u0301", "ｶﾞ", "각"]
        ),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
    ),
    st.integers(1, 200),
)
TEXT = st.lists(RUN, max_size=6).map("".join)


@every
@settings(deadline=None)
@given(text=TEXT)
def test_no_text_has_fewer_tokens_than_its_lower_bound(family: Family, text: str, open_model: OpenModelFactory) -> None:
    model = open_model(family)
    found = lengths_of(model.path)
    ids = model.tokenizer.encode(text)
    assert found.fewest_tokens(text) <= len(ids)
    assert found.characters_per_token == 0 or len(text) <= found.characters_per_token * len(ids)


@every
@pytest.mark.parametrize("text", ["word ", "你好", "\n", " ", "=", "😀", "é", "—"])
def test_a_long_text_has_a_high_lower_bound(family: Family, text: str, model_file: Callable[..., Path]) -> None:
    found = lengths_of(model_file(family))
    assert found.fewest_tokens(text * 100_000) > 1000


def test_a_tokenizer_without_all_bytes_has_no_lower_bound(model_file: Callable[..., Path]) -> None:
    # A run of unknown characters is one token, however long it is.
    pieces = [
        (text, tokenizers.NORMAL if kind == tokenizers.BYTE else kind)
        for text, kind in tokenizers.sentencepiece_pieces()
    ]
    found = lengths_of(model_file("chatglm2", tokenizer=tokenizers.sentencepiece_model(pieces)))
    assert found.characters_per_token == found.fewest_tokens("a" * 1000) == 0


@every
def test_a_text_that_is_far_too_long_is_not_encoded(
    family: Family, open_model: OpenModelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = limited_of(open_model(family))
    monkeypatch.setattr(PipelineTokenizer, "_encode", lambda self, text: pytest.fail("it was encoded"))
    with pytest.raises(TooManyTokens) as refused, limited.limit(1000):
        limited.encode("hello " * 100_000)
    assert refused.value.at_least
    assert 1000 < refused.value.tokens <= 600_000


@every
def test_the_tokens_of_a_text_that_is_a_little_too_long_are_counted(
    family: Family, open_model: OpenModelFactory
) -> None:
    limited = limited_of(open_model(family))
    text = "的一是不" * 250
    exact = len(limited.encode(text))
    most = exact - 10
    with limited.limit(most):
        ids = limited.encode(text)
    with pytest.raises(TooManyTokens) as refused:
        limited.check(ids, most)
    assert (refused.value.tokens, refused.value.at_least) == (exact, False)
    with limited.limit(exact):
        limited.check(limited.encode(text), exact)


def test_all_texts_of_a_prompt_count_together(open_model: OpenModelFactory) -> None:
    limited = limited_of(open_model("chatglm3"))
    text = "的一是不" * 10
    with limited.limit(2 * len(limited.encode(text))):
        limited.encode(text)
        with pytest.raises(TooManyTokens):
            limited.encode(text * 4)


@settings(deadline=None, max_examples=30)
@given(
    words=st.lists(
        st.one_of(
            st.sampled_from(
                ["hello", "天气", "42", " ", "  ", "\n", "\r\n", "'s", "，", "。", "\u3000", "\u0301", "_"]
            ),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        ),
        min_size=1,
    ),
)
def test_the_ids_of_the_parts_are_those_of_the_text(words: list[str], open_model: OpenModelFactory) -> None:
    tokenizer = open_model("glm4").tokenizer
    text = "".join(words) * (1 + 40_000 // len("".join(words) or " "))
    parts = list(tokenizer._parts(text))
    assert "".join(parts) == text
    assert [id for part in parts for id in tokenizer.encode(part)] == tokenizer.encode(text)


def test_a_long_text_has_several_parts(open_model: OpenModelFactory) -> None:
    parts = list(open_model("glm4").tokenizer._parts("The weather is fine, 今天天气很好。" * 5000))
    assert len(parts) > 5


@real_vocabularies.needed
@pytest.mark.parametrize(("name", "family"), [("chatglm-6b", "chatglm"), ("chatglm3", "chatglm3"), ("glm-4", "glm4")])
def test_the_lower_bound_holds_for_published_vocabularies(
    name: str, family: Family, open_model: OpenModelFactory
) -> None:
    model = open_model(family, **real_vocabularies.fields(name, family))
    vocabulary = read_vocabulary(inspect(model.path))
    found = lengths(vocabulary)
    texts = [text for text, _ in real_vocabularies.vectors(name)]
    pieces = [piece.decode(errors="ignore") for piece in vocabulary.pieces]
    longest = sorted(pieces, key=len)[-200:]
    for text in [*texts, *(text * 20 for text in texts), *(piece * 20 for piece in longest)]:
        assert found.fewest_tokens(text) <= len(model.tokenizer.encode(text)), text[:80]
