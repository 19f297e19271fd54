"""The adapter over chatglm_cpp's tokenizers, with vocabularies of other kinds and of the published models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.support.model_files import real_vocabularies, texts, tiktoken_reference, tokenizers
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.writer import Family

OpenModelFactory = Callable[..., OpenModel]


def test_special_tokens_that_a_tokenizer_finds_in_text_are_dropped(open_model: OpenModelFactory) -> None:
    pieces = [
        (text, tokenizers.USER_DEFINED if text in ("[gMASK]", "<sop>") else kind)
        for text, kind in tokenizers.chatglm_pieces()
    ]
    tokenizer = open_model("chatglm", tokenizer=tokenizers.sentencepiece_model(pieces)).tokenizer
    assert set(tokenizer.prefix).isdisjoint(tokenizer.encode("a[gMASK]<sop>b"))
    assert tokenizer.show(tokenizer.encode("a[gMASK]<sop>b")) == "ab"


def test_chatglms_unigram_model_encodes_the_text_that_its_normalizer_makes(open_model: OpenModelFactory) -> None:
    rules = {"，": ",", "Ａ": "A", "㎏": "kg", "\u3000": " "}
    model = tokenizers.unigram(tokenizers.sentencepiece_model(tokenizers.chatglm_pieces()), rules)
    opened = open_model("chatglm", tokenizer=model)
    text = "  你好，Ａ㎏\u3000the 𠮷\n"
    ids = opened.tokenizer.encode(text)
    assert ids + opened.tokenizer.prefix == opened.pipeline.tokenizer.encode(text, 1 << 20)
    assert opened.tokenizer.show(ids) == "  你好,Akg the 𠮷\n"
    assert opened.format.check() is None


@settings(deadline=None)
@given(text=texts.TEXTS)
def test_a_tokenizer_that_adds_no_space_shows_text_unchanged(text: str, open_model: OpenModelFactory) -> None:
    model = tokenizers.without_dummy_prefix(tokenizers.sentencepiece_model(tokenizers.sentencepiece_pieces()))
    tokenizer = open_model("chatglm2", tokenizer=model).tokenizer
    ids = tokenizer.encode(text)
    assert tokenizer.show(ids) == tokenizer.decode(ids).decode() == text


def test_pieces_that_end_in_a_carriage_return_are_kept(open_model: OpenModelFactory) -> None:
    pieces = tokenizers.sentencepiece_pieces()
    pieces[-1] = ("a\r", tokenizers.NORMAL)
    tokenizer = open_model("chatglm3", tokenizer=tokenizers.sentencepiece_model(pieces)).tokenizer
    ids = tokenizer.encode("你好a\r\n")
    assert pieces.index(("a\r", tokenizers.NORMAL)) in ids
    assert tokenizer.show(ids) == "你好a\r\n"


@real_vocabularies.needed
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("chatglm-6b", "chatglm"),
        ("chatglm3", "chatglm2"),
        ("chatglm3", "chatglm3"),
        ("codegeex2", "chatglm2"),
        ("glm-4", "glm4"),
        ("glm-4", "glm4v"),
    ],
)
def test_ids_are_those_of_the_published_tokenizer(name: str, family: Family, open_model: OpenModelFactory) -> None:
    model = open_model(family, **real_vocabularies.fields(name, family))
    vectors = real_vocabularies.vectors(name)
    assert {text: model.tokenizer.encode(text) for text, _ in vectors} == dict(vectors)
    assert model.format.check() is None


@real_vocabularies.needed
@settings(deadline=None)
@given(text=tiktoken_reference.TEXTS)
def test_glm4s_ids_are_tiktokens_with_the_published_ranks(text: str, open_model: OpenModelFactory) -> None:
    model = open_model("glm4", **real_vocabularies.fields("glm-4", "glm4"))
    assert model.tokenizer.encode(text) == tiktoken_reference.encode(text, real_vocabularies.ranks())


@real_vocabularies.needed
def test_the_reference_is_tiktoken() -> None:
    vectors = real_vocabularies.vectors("glm-4")
    assert {text: tiktoken_reference.encode(text, real_vocabularies.ranks()) for text, _ in vectors} == dict(vectors)
