"""Ordinary text never becomes a special token, whatever llama.cpp makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings

from glm_api.pipeline.worker.gguf_file import GgufFile, inspect_gguf
from glm_api.pipeline.worker.llama_cpp import repack
from glm_api.pipeline.worker.llama_cpp.merges import Merges
from glm_api.pipeline.worker.llama_cpp.repack import find_or_repack
from glm_api.pipeline.worker.llama_cpp.server import LlamaServer as Server
from glm_api.pipeline.worker.llama_cpp.tokenizer import LlamaTokenizer
from tests.support.llama_cpp import LlamaServer, llama_server
from tests.support.model_files import real_vocabularies, texts
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.tokenizers import NORMAL, sentencepiece_model, sentencepiece_pieces

# With "op", "s" and "op" are merged into what is named "sop".
TOKENIZER = sentencepiece_model([*sentencepiece_pieces()[:-1], ("op", NORMAL)])


@dataclass
class Case:
    reference: OpenModel
    file: GgufFile


@pytest.fixture(scope="module")
def case(open_model: Callable[..., OpenModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A ChatGLM3 whose special tokens are named as llama.cpp's converter names them."""
    reference = open_model("chatglm3", tokenizer=TOKENIZER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repack, "GGUF_NAMES", {})
        copied = find_or_repack(Path(shutil.copy(reference.path, tmp_path_factory.mktemp("merges"))))
    case = Case(reference, inspect_gguf(copied))
    yield case
    # Hypothesis keeps the arguments of its last test, and ggml has room for few open models.
    del case.reference


class Connected:
    """A server as `LlamaTokenizer` knows it, over one of `llama_server`."""

    def __init__(self, server: LlamaServer) -> None:
        self._server = server
        self.client = self

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._server.post(path, **body)


@pytest.mark.slow
def test_words_that_contain_the_name_of_a_special_token_are_encoded_as_text(case: Case, tmp_path: Path) -> None:
    with llama_server(case.file.path, tmp_path) as server:
        # What llama.cpp makes of it.
        assert server.tokenize("sop") == [case.reference.tokenizer.prefix[1]]
        tokenizer = LlamaTokenizer(case.file, cast(Server, Connected(server)))
        for text in ("philosophy", "people sop eop", "sop", "the weather", "你好sop```pythonsop"):
            assert tokenizer.encode(text) == case.reference.tokenizer.encode(text)


@settings(deadline=None)
@given(text=texts.TEXTS)
def test_merges_are_sentencepieces(text: str, case: Case) -> None:
    assert Merges(case.file).encode(f" {text}" if text else "") == case.reference.tokenizer.encode(text)


@real_vocabularies.needed
def test_merges_are_those_of_the_published_tokenizer(model_file: Callable[..., Path], tmp_path: Path) -> None:
    path = model_file("chatglm3", **real_vocabularies.fields("chatglm3", "chatglm3"))
    merges = Merges(inspect_gguf(find_or_repack(Path(shutil.copy(path, tmp_path)))))
    vectors = real_vocabularies.vectors("chatglm3")
    assert {text: merges.encode(f" {text}" if text else "") for text, _ in vectors} == dict(vectors)
