"""Read the bytes of every token id from the model file, which is chatglm.cpp's or a GGUF.

chatglm_cpp's own ``decode`` crashes the process at an id that its tokenizer does not have, and it replaces half
characters. For ChatGLM-6B and ChatGLM3 it also rewrites text that only looks like a special token. A table of bytes
does none of that.
"""

from __future__ import annotations

import array
import base64
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from glm_api.pipeline.worker.gguf_file import SOURCE_KEY, SPACE_PREFIX_KEY, GgufFile, Strings
from glm_api.pipeline.worker.model_file import CHATGLM, CHATGLM2, CHATGLM3, CHATGLM4, CHATGLM4V, ModelFile

# sentencepiece_model.proto: ModelProto.SentencePiece.Type. GGUF has the same numbers.
NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
BYTE: Final = 6
_SPACE = "▁"
_BYTE_TOKEN = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
# SentencePiece decodes an unknown token as this.
_UNKNOWN_TEXT = " ⁇ "

# GPT-2's letters for bytes: printable characters of Latin-1 stand for themselves, the others follow U+0100.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_BYTES_OF_LETTERS = {code: code for code in _PRINTABLE}
_BYTES_OF_LETTERS |= {0x100 + index: byte for index, byte in enumerate(sorted(set(range(0x100)) - set(_PRINTABLE)))}
_LETTERS_OF_BYTES = {byte: letter for letter, byte in _BYTES_OF_LETTERS.items()}

# The special tokens that chatglm_cpp's tokenizers append to the ids of the file, in this order.
_CHATGLM2_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
_CHATGLM3_SPECIALS = (*_CHATGLM2_SPECIALS, "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_CHATGLM4_SPECIALS = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
)
SPECIALS_BEHIND: Final[Mapping[int, tuple[str, ...]]] = {
    CHATGLM: (),
    CHATGLM2: _CHATGLM2_SPECIALS,
    CHATGLM3: _CHATGLM3_SPECIALS,
    CHATGLM4: _CHATGLM4_SPECIALS,
    CHATGLM4V: _CHATGLM4_SPECIALS,
}
# The special tokens that a repacked GGUF file names otherwise. llama.cpp's tokenizer merges ordinary text into special
# tokens too: it would find "sop" in "philosophy" and "eop" in "peoples".
GGUF_NAMES: Final[Mapping[str, str]] = {"sop": "<sop>", "eop": "<eop>"}
# ChatGLM-6B has its special tokens among the pieces.
_CHATGLM_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<pad>")
_CHATGLM_BLANKS = re.compile(r"<\|blank_(\d{1,2})\|>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``pieces[id]`` are the bytes that an id adds to a text, none for a special id; ``specials`` maps names to ids."""

    pieces: list[bytes]
    specials: dict[str, int]
    begins_with_space: bool
    """The tokenizer puts a space in front of every text."""
    longest_piece: int
    """Characters of the longest piece as the file spells it."""
    covers_all: bool
    """Each character of a text is encoded, none as part of one unknown token; only a known normalizer drops some."""
    normalizes: bool
    """The tokenizer changes a text before it looks for pieces, as that of ChatGLM-6B does."""


def read_vocabulary(model: ModelFile) -> Vocabulary:
    """Return the vocabulary of a model file that `inspect` has checked. Raises ValueError when it cannot be read."""
    data = read_tokenizer(model)
    sentencepiece = model.model_type in (CHATGLM, CHATGLM2, CHATGLM3)
    vocabulary = _sentencepiece_vocabulary(data, model.model_type) if sentencepiece else _ranks_vocabulary(data)
    if len(vocabulary.pieces) > model.vocabulary_size:
        raise ValueError(f"the tokenizer has {len(vocabulary.pieces)} ids, the model {model.vocabulary_size}")
    return vocabulary


def read_gguf_vocabulary(file: GgufFile) -> Vocabulary:
    """Return the vocabulary of a GGUF file. Raises ValueError when it cannot be read.

    A user-defined token is special in that ``specials`` has its name. It adds its text, as an ordinary one does.
    """
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Strings):
        raise ValueError("the file has no tokens")
    kinds = file.metadata.get("tokenizer.ggml.token_type", array.array("i", [NORMAL]) * len(tokens))
    if not isinstance(kinds, array.array) or len(kinds) < len(tokens):
        raise ValueError("the tokenizer does not tell of what type each token is")
    if file.tokenizer_model not in ("llama", "gpt2"):
        raise ValueError(f"the tokenizer is of the unknown type {file.tokenizer_model!r}")
    of_letters = file.tokenizer_model == "gpt2"
    pieces: list[bytes] = []
    specials: dict[str, int] = {}
    longest = used = 0
    for id, (token, kind) in enumerate(zip(tokens, kinds, strict=False)):
        if kind in (CONTROL, USER_DEFINED):
            specials[token.decode(errors="replace")] = id
        piece = _gguf_piece(token, int(kind), of_letters)
        if piece and kind != UNKNOWN:
            longest = max(longest, len(token.decode(errors="replace")))
        pieces.append(piece)
        if kind != UNUSED:
            used = id + 1
    # Rows of the weights behind the last token have none.
    del pieces[used:]
    if file.tokenizer_model == "llama" and SOURCE_KEY in file.metadata:
        for name, written in GGUF_NAMES.items():
            if written in specials:
                specials[name] = specials.pop(written)
    if not of_letters:
        single_bytes = {piece for piece, kind in zip(pieces, kinds, strict=False) if kind == BYTE}
    else:
        single_bytes = {piece for piece in pieces if len(piece) == 1}
    return Vocabulary(
        pieces,
        specials,
        begins_with_space=bool(file.metadata.get(SPACE_PREFIX_KEY, file.add_space_prefix)),
        longest_piece=longest,
        covers_all=len(single_bytes) == 256,
        normalizes=False,
    )


def _gguf_piece(token: bytes, kind: int, of_letters: bool) -> bytes:
    if kind in (CONTROL, UNUSED):
        return b""
    if of_letters:
        return token if kind == USER_DEFINED else bytes_of_letters(token)
    if kind == BYTE:
        if (byte := _BYTE_TOKEN.fullmatch(token)) is None:
            raise ValueError(f"the tokenizer has the token {token!r} for a byte")
        return bytes([int(byte[1], 16)])
    if kind == UNKNOWN:
        return _UNKNOWN_TEXT.encode()
    return token.replace(_SPACE.encode(), b" ")


def letters_of_bytes(data: bytes) -> bytes:
    """Return bytes as GPT-2's tokenizer writes them: each as a printable character, in UTF-8."""
    return data.decode("latin-1").translate(_LETTERS_OF_BYTES).encode()


def bytes_of_letters(token: bytes) -> bytes:
    """Return the bytes that `letters_of_bytes` has written; what it cannot have written is returned as it is."""
    try:
        return token.decode().translate(_BYTES_OF_LETTERS).encode("latin-1")
    except UnicodeError:
        return token


def read_tokenizer(model: ModelFile) -> bytes:
    """Return the tokenizer section of a model file: a SentencePiece model, or base64 ranks for GLM-4."""
    with model.path.open("rb") as file:
        file.seek(model.tokenizer_offset)
        return file.read(model.tokenizer_bytes)


class Piece(NamedTuple):
    """A token of a SentencePiece model. ``kind`` is one of the constants of this module."""

    text: str
    kind: int
    score: float


def read_pieces(data: bytes) -> list[Piece]:
    """Return the tokens of a serialized SentencePiece model. Raises ValueError when it cannot be read."""
    return [_read_piece(value) for number, value in _fields(data) if number == 1 and isinstance(value, bytes)]


def _sentencepiece_vocabulary(data: bytes, model_type: int) -> Vocabulary:
    pieces: list[bytes] = []
    specials: dict[str, int] = {}
    dummy_prefix = normalizes = True
    longest, single_bytes = 0, 0
    for text, kind, _ in read_pieces(data):
        longest = max(longest, len(text))
        single_bytes += kind == BYTE
        if kind == CONTROL or (model_type == CHATGLM and text in _CHATGLM_SPECIALS):
            specials[text] = len(pieces)
            pieces.append(b"")
        elif kind == BYTE:
            pieces.append(bytes([int(text[1:-1], 16)]))
        elif kind == UNKNOWN:
            pieces.append(_UNKNOWN_TEXT.encode())
        else:
            pieces.append(_piece_text(text, model_type).encode())
    for number, value in _fields(data):
        if number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
            dummy_prefix = bool(normalizer.get(3, 1))
            normalizes = bool(normalizer.get(2)) or bool(normalizer.get(4, 1))
    for name in SPECIALS_BEHIND[model_type]:
        specials[name] = len(pieces)
        pieces.append(b"")
    return Vocabulary(
        pieces,
        specials,
        dummy_prefix,
        longest_piece=longest,
        # Only ChatGLM-6B's normalizer is known; before it runs, chatglm_cpp replaces white space.
        covers_all=single_bytes == 256 and (model_type == CHATGLM or not normalizes),
        normalizes=model_type == CHATGLM,
    )


def _piece_text(text: str, model_type: int) -> str:
    if model_type == CHATGLM:
        if text == "<n>":
            return "\n"
        if text == "<|tab|>":
            return "\t"
        blanks = _CHATGLM_BLANKS.fullmatch(text)
        if blanks is not None:
            return " " * int(blanks[1])
    return text.replace(_SPACE, " ")


def _read_piece(data: bytes) -> Piece:
    text, kind, score = "", NORMAL, 0.0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            (score,) = struct.unpack("<f", value)
        elif number == 3 and isinstance(value, int):
            kind = value
    return Piece(text, kind, score)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protocol buffer message as (number, value); values are as encoded."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"the tokenizer has a field of wire type {wire}")
        if position + length > end:
            raise ValueError("the tokenizer ends inside a field")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
    raise ValueError("the tokenizer ends inside a number")


def read_ranks(data: bytes) -> list[bytes]:
    """Return the tokens of base64 ranks, the lowest rank first. Raises ValueError when they cannot be read."""
    words = data.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError("the tokenizer's ranks do not count from 0")
    # chatglm_cpp's tokenizer raises at a text that holds a byte without an id.
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("the tokenizer has no ids for some bytes")
    return sorted(ranks, key=ranks.__getitem__)


def _ranks_vocabulary(data: bytes) -> Vocabulary:
    tokens = read_ranks(data)
    return Vocabulary(
        [*tokens, *[b""] * len(_CHATGLM4_SPECIALS)],
        {name: len(tokens) + index for index, name in enumerate(_CHATGLM4_SPECIALS)},
        begins_with_space=False,
        longest_piece=max(map(len, tokens)),
        covers_all=True,
        normalizes=False,
    )
