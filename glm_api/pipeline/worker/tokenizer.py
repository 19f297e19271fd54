"""Adapt chatglm_cpp's tokenizers to the interface that the formats use."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from glm_api.pipeline.worker import white_space
from glm_api.pipeline.worker.bridge import _C
from glm_api.pipeline.worker.model_file import CHATGLM, CHATGLM4, CHATGLM4V, ModelFile
from glm_api.pipeline.worker.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from glm_api.pipeline.worker.constraints import Constraints

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


class PipelineTokenizer:
    """The `Tokenizer` of an open `chatglm_cpp.Pipeline`; ``model`` is the file that it was opened from."""

    def __init__(self, pipeline: _C.Pipeline, model: ModelFile) -> None:
        self._tokenizer = pipeline.tokenizer
        self._vocabulary = read_vocabulary(model)
        self._pieces = dict(enumerate(self._vocabulary.pieces))
        self._prefix_last = model.model_type == CHATGLM
        self._uses_tiktoken = model.model_type in (CHATGLM4, CHATGLM4V)
        self._special_ids = frozenset(self._vocabulary.specials.values())
        config = pipeline.model.config
        self._logits = config.vocab_size
        self.end_ids = frozenset(id for id in (config.eos_token_id, *config.extra_eos_token_ids) if id >= 0)

    def encode(self, text: str) -> list[int]:
        """Return ordinary text as ids, none of them special.

        A model file may let the tokenizer find special tokens in a text, though the published ones do not. Their ids
        are dropped.
        """
        ids = self._encode_as_tiktoken(text) if self._uses_tiktoken else self._encode(text)
        if not self._special_ids.isdisjoint(ids):
            ids = [id for id in ids if id not in self._special_ids]
        return ids

    def _parts(self, text: str) -> Iterator[str]:
        """Cut ``text`` into parts, so that a caller can encode them one by one and stop.

        The ids of the parts, one after the other, are those of the text.
        """
        if not self._uses_tiktoken:
            yield text
            return
        for run in _cut_long_runs(text):
            begin = 0
            while (end := _PART_END.search(run, begin + _PART)) is not None:
                yield run[begin : end.start()]
                begin = end.start()
            yield run[begin:]

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the UTF-8 bytes that ``ids`` add to a text, without special and unknown ids."""
        pieces = self._pieces
        return b"".join([pieces.get(id, b"") for id in ids])

    def show(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` for people: special tokens by name, and no space in front."""
        names = {id: name.encode() for name, id in self._vocabulary.specials.items()}
        text = b"".join([names.get(id) or self._pieces.get(id, b"") for id in ids]).decode(errors="replace")
        first_is_word = bool(ids) and ids[0] not in self._special_ids
        return text.removeprefix(" ") if first_is_word and self._vocabulary.begins_with_space else text

    def role(self, name: str) -> int:
        """Return the id of ``<|name|>``. Raises KeyError where the family has none."""
        return self._vocabulary.specials[f"<|{name}|>"]

    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of (role, content) pairs by chatglm_cpp's own chat template, uncut."""
        return list(self._tokenizer.apply_chat_template([_C.ChatMessage(*message) for message in messages], _UNCUT))

    @cached_property
    def prefix(self) -> list[int]:
        """The special ids that open (ChatGLM-6B: that close) every prompt."""
        return list(self._tokenizer.encode("", _UNCUT))

    def knows(self, token: int) -> bool:
        """Return whether the tokenizer has this id."""
        return token in self._pieces

    @cached_property
    def constraints(self) -> Constraints:
        """The grammars of this vocabulary. Made at the first use: that takes half a second and 50 MB for GLM-4."""
        # Imported here: numpy takes a tenth of a second, and a restart must be quick.
        from glm_api.pipeline.worker.constraints import Constraints

        # llguidance keeps what it is given for ever if that leads back to it, and with this tokenizer the whole model.
        tokenizer = weakref.proxy(self)

        def encode(text: str) -> list[int]:
            # Not encode of a subclass: that may limit the length of a prompt.
            return PipelineTokenizer.encode(tokenizer, text)

        return Constraints(self._vocabulary, self._logits, self.end_ids, encode)

    def refusal(self, grammar: str) -> str | None:
        """Return why no answer can be held to this Lark grammar, in the words of llguidance; None if one can."""
        return self.constraints.refusal(grammar)

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
                    ids += self._encode(part + _WORD)[: -len(self._encode(_WORD))]
                else:
                    ids += self._encode(part)
        return ids

    def _encode(self, text: str) -> list[int]:
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
