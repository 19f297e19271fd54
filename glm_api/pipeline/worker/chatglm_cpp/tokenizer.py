"""Adapt chatglm_cpp's tokenizers to the interface that the formats use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from glm_api.pipeline.worker.chatglm_cpp import white_space
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from glm_api.pipeline.worker.model_file import CHATGLM, CHATGLM4, CHATGLM4V, ModelFile
from glm_api.pipeline.worker.tokenizer import LimitedTokenizer
from glm_api.pipeline.worker.vocabulary import read_vocabulary

# chatglm_cpp silently cuts off ids beyond this number.
_UNCUT = 1 << 30

# GLM-4's byte pair merge takes time that grows with the square of a run of letters, or of signs and blanks. Runs of
# more than _MAX_RUN characters are not language; they are encoded in pieces. The lookbehinds let the search try each
# run once.
_MAX_RUN, _RUN_PIECE = 1024, 128
_LONG_RUN = re.compile(rf"(?<![^\W\d_])[^\W\d_]{{{_MAX_RUN},}}|(?<![\W_])[\W_]{{{_MAX_RUN},}}")
# Between a letter or digit and a sign or blank a match of GLM-4's pattern ends, whatever follows.
_PART = 16 * 1024
_PART_END = re.compile(
    r"(?<=[0-9A-Za-z\u4e00-\u9fff])(?=[\0-/:-@\[-`{-\x7f\xa0\u0300-\u036f\u2000-\u206f\u3000-\u3003，！？：；])"
)

# chatglm_cpp replaces a lookahead of that pattern by code that takes the last of several blanks for a part of the next
# word, even at the end of a text. So a word is appended there, and its ids are dropped.
_BLANKS = (" ", "\t", "\f")
_WORD = " x"


class PipelineTokenizer(LimitedTokenizer):
    """The `Tokenizer` of an open `chatglm_cpp.Pipeline`; ``model`` is the file that it was opened from."""

    def __init__(self, pipeline: _C.Pipeline, model: ModelFile) -> None:
        config = pipeline.model.config
        end_ids = frozenset(id for id in (config.eos_token_id, *config.extra_eos_token_ids) if id >= 0)
        super().__init__(read_vocabulary(model), config.vocab_size, end_ids)
        self._tokenizer = pipeline.tokenizer
        self._prefix_last = model.model_type == CHATGLM
        self._uses_tiktoken = model.model_type in (CHATGLM4, CHATGLM4V)

    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of (role, content) pairs by chatglm_cpp's own chat template, uncut."""
        return list(self._tokenizer.apply_chat_template([_C.ChatMessage(*message) for message in messages], _UNCUT))

    @cached_property
    def prefix(self) -> list[int]:
        """The special ids that open (ChatGLM-6B: that close) every prompt."""
        return list(self._tokenizer.encode("", _UNCUT))

    def _parts(self, text: str) -> Iterator[str]:
        if not self._uses_tiktoken:
            yield text
            return
        for run in _cut_long_runs(text):
            begin = 0
            while (end := _PART_END.search(run, begin + _PART)) is not None:
                yield run[begin : end.start()]
                begin = end.start()
            yield run[begin:]

    def _encode(self, text: str) -> list[int]:
        return self._encode_as_tiktoken(text) if self._uses_tiktoken else self._encode_plainly(text)

    @cached_property
    def _white_space_ranks(self) -> dict[bytes, int]:
        return white_space.ranks(self._vocabulary.pieces)

    def _encode_as_tiktoken(self, text: str) -> list[int]:
        ids: list[int] = []
        for run in _cut_long_runs(text):
            for part in white_space.split(run):
                if isinstance(part, bytes):
                    ids += white_space.merge(part, self._white_space_ranks)
                elif part.endswith(_BLANKS):
                    ids += self._encode_plainly(part + _WORD)[: -len(self._encode_plainly(_WORD))]
                else:
                    ids += self._encode_plainly(part)
        return ids

    def _encode_plainly(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, _UNCUT)
        return ids[:-2] if self._prefix_last else ids[2:]


def _cut_long_runs(text: str) -> list[str]:
    if len(text) < _MAX_RUN:
        return [text]
    parts: list[str] = []
    end = 0
    for run in _LONG_RUN.finditer(text):
        parts.append(text[end : run.start()])
        parts += (run.group()[i : i + _RUN_PIECE] for i in range(0, len(run.group()), _RUN_PIECE))
        end = run.end()
    return [*parts, text[end:]]
