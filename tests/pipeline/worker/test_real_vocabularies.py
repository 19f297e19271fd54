"""The adapter over chatglm_cpp's tokenizers, with the vocabularies of the published models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.models import real_vocabularies, tiktoken_reference
from tests.models.fixtures import OpenModel
from tests.models.writer import Family

pytestmark = real_vocabularies.needed
OpenModelFactory = Callable[..., OpenModel]


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
    model = open_model(family, tokenizer=real_vocabularies.tokenizer(name))
    vectors = real_vocabularies.vectors(name)
    assert {text: model.tokenizer.encode(text) for text, _ in vectors} == dict(vectors)
    assert model.format.check() is None


@settings(deadline=None)
@given(text=tiktoken_reference.TEXTS)
def test_glm4s_ids_are_tiktokens(text: str, open_model: OpenModelFactory) -> None:
    model = open_model("glm4", tokenizer=real_vocabularies.tokenizer("glm-4"))
    assert model.tokenizer.encode(text) == tiktoken_reference.encode(text, real_vocabularies.ranks())


def test_the_reference_is_tiktoken() -> None:
    vectors = real_vocabularies.vectors("glm-4")
    assert {text: tiktoken_reference.encode(text, real_vocabularies.ranks()) for text, _ in vectors} == dict(vectors)
