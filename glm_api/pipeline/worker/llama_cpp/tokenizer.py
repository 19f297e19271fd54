"""Encode texts with llama.cpp, by the vocabulary of a GGUF file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from glm_api.pipeline.worker.gguf_file import GgufFile
from glm_api.pipeline.worker.llama_cpp.merges import Merges
from glm_api.pipeline.worker.llama_cpp.server import LlamaServer
from glm_api.pipeline.worker.tokenizer import LimitedTokenizer
from glm_api.pipeline.worker.vocabulary import read_gguf_vocabulary

# The special tokens that open every prompt, as the families spell them.
_OPENINGS = (("[gMASK]", "<sop>"), ("[gMASK]", "sop"))


class LlamaTokenizer(LimitedTokenizer):
    """The `Tokenizer` of the GGUF ``file`` that ``server`` has loaded."""

    def __init__(self, file: GgufFile, server: LlamaServer) -> None:
        super().__init__(read_gguf_vocabulary(file), file.vocabulary_size, file.end_ids)
        self._file = file
        # llama.cpp's server runs for as long as it is referred to.
        self._server = server
        self._client = server.client
        # SentencePiece puts a space in front of every text. The files that are made for this server tell llama.cpp not
        # to, see `repack`.
        self._opening = " " if self._vocabulary.begins_with_space and not file.add_space_prefix else ""

    @cached_property
    def prefix(self) -> list[int]:
        """The special ids that open every prompt; none for a family that is answered by its template."""
        specials = self._vocabulary.specials
        for names in _OPENINGS:
            if all(name in specials for name in names):
                return [specials[name] for name in names]
        return []

    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Raise NotImplementedError: llama.cpp's templates of these families are not the measure of ours."""
        raise NotImplementedError

    def encode_prompt(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a whole prompt. ``special``: it spells out its special tokens, as a template does.

        Without, the special ids that open every prompt are added. Raises `TooManyTokens`.
        """
        if not special:
            return [*self.prefix, *self.encode(text)]
        # llama.cpp cannot be stopped. It takes seconds for megabytes, and hundreds of megabytes of memory.
        self.expect_text(text)
        body = {"content": text, "add_special": True, "parse_special": True}
        ids: list[int] = self._client.post("/tokenize", body)["tokens"]
        return ids

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        body = {"content": self._opening + text, "add_special": False, "parse_special": False}
        ids: list[int] = self._client.post("/tokenize", body)["tokens"]
        if self._file.tokenizer_model == "llama" and not self._special_ids.isdisjoint(ids):
            return self._merges.encode(f" {text}" if self._vocabulary.begins_with_space else text)
        return ids

    @cached_property
    def _merges(self) -> Merges:
        return Merges(self._file)
