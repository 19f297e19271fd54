"""What a text's length tells of its tokens, and that no more is encoded than was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chatglm_cpp import _C
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_api.pipeline.worker.lengths import lengths
from glm_api.pipeline.worker.limited import LimitedTokenizer, TooManyTokens
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.tokenizer import PipelineTokenizer
from tests.models import tokenizers
from tests.models.fixtures import OpenModel
from tests.models.writer import FAMILIES, Family, TinyModel, vocabulary_size, write_model

every = pytest.mark.parametrize("family", FAMILIES)
OpenModelFactory = Callable[..., OpenModel]

# Runs of what makes long tokens, what vanishes and what is composed, and anything.
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
def test_no_text_has_fewer_tokens_than_its_length_tells(
    family: Family, text: str, open_model: OpenModelFactory
) -> None:
    tokenizer = open_model(family).tokenizer
    found = lengths(tokenizer.vocabulary)
    ids = tokenizer.encode(text)
    assert found.fewest_tokens(text) <= len(ids)
    assert found.characters_per_token == 0 or len(text) <= found.characters_per_token * len(ids)


@every
@pytest.mark.parametrize("text", ["word ", "你好", "\n", " ", "=", "😀", "é", "—"])
def test_the_length_of_a_long_text_tells_much(family: Family, text: str, open_model: OpenModelFactory) -> None:
    found = lengths(open_model(family).tokenizer.vocabulary)
    assert found.fewest_tokens(text * 100_000) > 1000


def test_a_tokenizer_without_all_bytes_tells_nothing(open_model: OpenModelFactory) -> None:
    # What it does not know is one token, however long.
    pieces = [
        (text, tokenizers.NORMAL if kind == tokenizers.BYTE else kind)
        for text, kind in tokenizers.sentencepiece_pieces()
    ]
    tokenizer = open_model("chatglm2", tokenizer=tokenizers.sentencepiece_model(pieces)).tokenizer
    found = lengths(tokenizer.vocabulary)
    assert found.characters_per_token == found.fewest_tokens("a" * 1000) == 0


@every
def test_what_is_far_too_long_is_not_encoded(
    family: Family, open_model: OpenModelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = open_model(family).tokenizer
    limited = LimitedTokenizer(tokenizer)
    monkeypatch.setattr(tokenizer, "encode", lambda text: pytest.fail("it was encoded"))
    with pytest.raises(TooManyTokens) as refused, limited.limit(1000):
        limited.encode("hello " * 100_000)
    assert refused.value.at_least
    assert 1000 < refused.value.tokens <= 600_000


@every
def test_what_is_a_little_too_long_is_counted(family: Family, open_model: OpenModelFactory) -> None:
    limited = LimitedTokenizer(open_model(family).tokenizer)
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
    limited = LimitedTokenizer(open_model("chatglm3").tokenizer)
    text = "的一是不" * 10
    with limited.limit(2 * len(limited.encode(text))):
        limited.encode(text)
        with pytest.raises(TooManyTokens):
            limited.encode(text * 2)


@settings(deadline=None)
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
    parts = list(tokenizer.parts(text))
    assert "".join(parts) == text
    assert [id for part in parts for id in tokenizer.encode(part)] == tokenizer.encode(text)


def test_a_long_text_has_several_parts(open_model: OpenModelFactory) -> None:
    parts = list(open_model("glm4").tokenizer.parts("The weather is fine, 今天天气很好。" * 5000))
    assert len(parts) > 5


REAL = Path(__file__).parents[4] / "shared" / "real-vocab"
REAL_FILES: dict[Family, tuple[str, str, int]] = {
    "chatglm": ("chatglm-6b.ice_text.model", "chatglm-6b", 130_344),
    "chatglm3": ("chatglm3.tokenizer.model", "chatglm3", 64_798),
    "glm4": ("glm-4.tokenizer.model", "glm-4", 151_343),
}


@pytest.fixture(scope="module", params=REAL_FILES)
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PipelineTokenizer, list[str]]]:
    """A published vocabulary, and texts that are hard for it."""
    file, name, ids = REAL_FILES[request.param]
    if not (REAL / file).exists():
        pytest.skip("the published vocabularies are not here")
    model = TinyModel(
        request.param, extra_rows=ids - vocabulary_size(request.param), tokenizer=(REAL / file).read_bytes()
    )
    path = write_model(tmp_path_factory.mktemp("real") / "model.bin", model)
    pipeline = _C.Pipeline(str(path), 16)
    return (
        PipelineTokenizer(pipeline, inspect(path)),
        [text for text, _ in json.loads((REAL / "vectors.json").read_text())[name]],
    )


def test_published_vocabularies_keep_to_what_lengths_tell(real: tuple[PipelineTokenizer, list[str]]) -> None:
    tokenizer, texts = real
    found = lengths(tokenizer.vocabulary)
    pieces = [piece.decode(errors="ignore") for piece in tokenizer.vocabulary.pieces]
    longest = sorted(pieces, key=len)[-500:]
    for text in [*texts, *(text * 50 for text in texts), *(piece * 20 for piece in longest)]:
        assert found.fewest_tokens(text) <= len(tokenizer.encode(text)), text[:80]
