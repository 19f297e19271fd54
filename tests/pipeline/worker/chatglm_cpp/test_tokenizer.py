"""The adapter over chatglm_cpp's tokenizers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glm_api.pipeline.formats.punctuation import ChinesePunctuation
from glm_api.pipeline.worker.chatglm_cpp import white_space
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from glm_api.pipeline.worker.chatglm_cpp.tokenizer import PipelineTokenizer
from glm_api.pipeline.worker.model_file import inspect
from tests.support.model_files import texts, tiktoken_reference, tokenizers
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.writer import FAMILIES, Family, vocabulary_size

every = pytest.mark.parametrize("family", FAMILIES)
OpenModelFactory = Callable[..., OpenModel]

TINY_RANKS = {token: rank for rank, token in enumerate(tokenizers.tiktoken_tokens())}
SPELLED_OUT = "<|user|><|assistant|><|observation|><|system|>[gMASK][MASK]sop<sop><eop></s><s><unk><|endoftext|><pad>"


@every
@settings(deadline=None)
@given(text=texts.TEXTS)
def test_text_survives_encoding(family: Family, text: str, open_model: OpenModelFactory) -> None:
    tokenizer = open_model(family).tokenizer
    ids = tokenizer.encode(text)
    assert all(tokenizer.knows(id) for id in ids)
    written = text.replace("<n>", "\n") if family == "chatglm" else text
    assert tokenizer.show(ids) == written
    assert tokenizer.decode(ids).decode() in (written, f" {written}")


@every
@settings(deadline=None)
@given(text=texts.TEXTS)
def test_ids_and_text_are_chatglm_cpps(family: Family, text: str, open_model: OpenModelFactory) -> None:
    model = open_model(family)
    cpp = model.pipeline.tokenizer
    ids = model.tokenizer.encode(text)
    prefix = model.tokenizer.prefix
    if family not in ("glm4", "glm4v"):  # there white space makes a difference, see below
        assert (ids + prefix if family == "chatglm" else prefix + ids) == cpp.encode(text, 1 << 20)
    punctuation = ChinesePunctuation()
    shown = model.tokenizer.show(ids)
    if family in ("chatglm", "chatglm2"):
        shown = punctuation.feed(shown) + punctuation.flush()
    # ChatGLM3's decode takes text that spells a special token for that token, unless it shows special tokens.
    assert shown == cpp.decode(ids, family in ("chatglm", "chatglm2"))


@pytest.mark.parametrize("family", ["glm4", "glm4v"])
@settings(deadline=None)
@given(text=tiktoken_reference.TEXTS)
@example(text="　　你好\n　　你好")
@example(text="def f(x):\n    ")
@example(text="a  ")
def test_glm4s_ids_are_tiktokens(family: Family, text: str, open_model: OpenModelFactory) -> None:
    assert open_model(family).tokenizer.encode(text) == tiktoken_reference.encode(text, TINY_RANKS)


@pytest.mark.parametrize("blank", ["\u3000", "\xa0", " \xa0", "\v\t"])
@pytest.mark.parametrize("length", [2, 3, 128, 900])
def test_long_runs_of_any_white_space_are_merged_as_tiktoken_does(
    blank: str, length: int, open_model: OpenModelFactory
) -> None:
    text = f"a{(blank * length)[:length]}你"
    assert open_model("glm4").tokenizer.encode(text) == tiktoken_reference.encode(text, TINY_RANKS)


def test_the_time_for_white_space_grows_with_its_size_only() -> None:
    # If the time grew with the square of the size, either of the two would take longer than a test may.
    blanks = " " * 1_000_000
    assert white_space.split(f"\u3000a{blanks}b") == [f"\u3000a{blanks}b"]
    assert set(white_space.merge("\u3000".encode() * 200_000, white_space.ranks(list(TINY_RANKS)))) == {
        TINY_RANKS["\u3000\u3000".encode()]
    }


@every
@settings(deadline=None)
@given(data=st.data())
def test_the_bytes_of_ids_are_those_of_each_id(
    family: Family, data: st.DataObject, open_model: OpenModelFactory
) -> None:
    tokenizer = open_model(family).tokenizer
    ids = data.draw(st.lists(st.integers(-1, vocabulary_size(family) + 1), max_size=8))
    assert tokenizer.decode(ids) == b"".join(tokenizer.decode([id]) for id in ids)


@every
def test_no_text_yields_a_special_id(family: Family, open_model: OpenModelFactory) -> None:
    tokenizer = open_model(family).tokenizer
    ids = tokenizer.encode(SPELLED_OUT)
    special = {id for id in range(vocabulary_size(family)) if not tokenizer.decode([id])}
    assert special.isdisjoint(ids)
    assert tokenizer.show(ids) == SPELLED_OUT


@every
def test_unknown_ids_decode_to_nothing(family: Family, open_model: OpenModelFactory) -> None:
    model = open_model(family, extra_rows=300)
    size = vocabulary_size(family)
    assert model.pipeline.model.config.vocab_size == size + 300
    assert model.tokenizer.knows(size - 1)
    for unknown in (size, size + 299, -1):
        assert not model.tokenizer.knows(unknown)
        assert model.tokenizer.decode([unknown]) == b""
        assert model.tokenizer.show([unknown]) == ""


@every
def test_special_ids_are_shown_by_name_and_decode_to_nothing(family: Family, open_model: OpenModelFactory) -> None:
    tokenizer = open_model(family).tokenizer
    assert tokenizer.show(tokenizer.prefix) in ("[gMASK]sop", "[gMASK]<sop>")
    assert tokenizer.decode(tokenizer.prefix) == b""


@pytest.mark.parametrize("family", ["chatglm3", "glm4", "glm4v"])
@pytest.mark.parametrize("role", ["system", "user", "assistant", "observation"])
def test_roles_are_those_of_chatglm_cpps_template(family: Family, role: str, open_model: OpenModelFactory) -> None:
    model = open_model(family)
    ids = model.pipeline.tokenizer.apply_chat_template([_C.ChatMessage(role, "")], 1 << 20)
    assert model.tokenizer.role(role) == ids[2]


@pytest.mark.parametrize("family", ["chatglm", "chatglm2"])
def test_a_family_without_roles_raises_key_error(family: Family, open_model: OpenModelFactory) -> None:
    with pytest.raises(KeyError):
        open_model(family).tokenizer.role("user")


@every
def test_the_ids_that_end_an_answer_are_chatglm_cpps(family: Family, open_model: OpenModelFactory) -> None:
    model = open_model(family)
    config = model.pipeline.model.config
    assert model.tokenizer.end_ids == {config.eos_token_id, *config.extra_eos_token_ids}


@pytest.mark.parametrize("run", ["a", "你", "=", " ", "\n", "_", "\u00a0", "ab", "__-"])
def test_very_long_runs_are_encoded_in_pieces(run: str, open_model: OpenModelFactory) -> None:
    model = open_model("glm4")
    text = f"hello {run * 5_000} 你好"
    ids = model.tokenizer.encode(text)
    assert model.tokenizer.show(ids) == text
    ordinary = f"hello {run * 300} 你好"
    assert model.tokenizer.encode(ordinary) == tiktoken_reference.encode(ordinary, TINY_RANKS)


def test_the_grammars_of_a_tokenizer_do_not_keep_it(open_demo: OpenModel) -> None:
    tokenizer = PipelineTokenizer(open_demo.pipeline, inspect(open_demo.path))
    tokenizer.constraints.compile('start: "hello"')
    kept = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert kept() is None
