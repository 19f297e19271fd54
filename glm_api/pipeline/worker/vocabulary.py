"""Read the bytes of every token id from the model file.

chatglm_cpp's own ``decode`` crashes the process at an id that its tokenizer does not have, and it replaces half
characters. For ChatGLM-6B and ChatGLM3 it also rewrites text that only looks like a special token. A table of bytes
does none of that.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

from glm_api.pipeline.worker.model_file import CHATGLM, CHATGLM2, CHATGLM3, ModelFile

# sentencepiece_model.proto: ModelProto.SentencePiece.Type
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6
_SPACE = "▁"

# The special tokens that chatglm_cpp's tokenizers append to the ids of the file, in this order.
_CHATGLM2_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
_CHATGLM3_SPECIALS = (*_CHATGLM2_SPECIALS, "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_CHATGLM4_SPECIALS = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
)
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
    with model.path.open("rb") as file:
        file.seek(model.tokenizer_offset)
        data = file.read(model.tokenizer_bytes)
    sentencepiece = model.model_type in (CHATGLM, CHATGLM2, CHATGLM3)
    vocabulary = _read_sentencepiece(data, model.model_type) if sentencepiece else _read_ranks(data)
    if len(vocabulary.pieces) > model.vocabulary_size:
        raise ValueError(f"the tokenizer has {len(vocabulary.pieces)} ids, the model {model.vocabulary_size}")
    return vocabulary


def _read_sentencepiece(data: bytes, model_type: int) -> Vocabulary:
    pieces: list[bytes] = []
    specials: dict[str, int] = {}
    dummy_prefix = normalizes = True
    longest, single_bytes = 0, 0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text, kind = _read_piece(value)
            longest = max(longest, len(text))
            single_bytes += kind == _BYTE
            if kind == _CONTROL or (model_type == CHATGLM and text in _CHATGLM_SPECIALS):
                specials[text] = len(pieces)
                pieces.append(b"")
            elif kind == _BYTE:
                pieces.append(bytes([int(text[1:-1], 16)]))
            elif kind == _UNKNOWN:
                pieces.append(" ⁇ ".encode())
            else:
                pieces.append(_piece_text(text, model_type).encode())
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
            dummy_prefix = bool(normalizer.get(3, 1))
            normalizes = bool(normalizer.get(2)) or bool(normalizer.get(4, 1))
    behind = {CHATGLM2: _CHATGLM2_SPECIALS, CHATGLM3: _CHATGLM3_SPECIALS}.get(model_type, ())
    for name in behind:
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


def _read_piece(data: bytes) -> tuple[str, int]:
    text, kind = "", 1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 3 and isinstance(value, int):
            kind = value
    return text, kind


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


def _read_ranks(data: bytes) -> Vocabulary:
    words = data.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    first_special = len(ranks)
    if sorted(ranks.values()) != list(range(first_special)):
        raise ValueError("the tokenizer's ranks do not count from 0")
    # chatglm_cpp's tokenizer raises at a text that holds a byte without an id.
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("the tokenizer has no ids for some bytes")
    pieces = sorted(ranks, key=ranks.__getitem__) + [b""] * len(_CHATGLM4_SPECIALS)
    specials = {name: first_special + index for index, name in enumerate(_CHATGLM4_SPECIALS)}
    return Vocabulary(
        pieces,
        specials,
        begins_with_space=False,
        longest_piece=max(map(len, ranks)),
        covers_all=all(bytes([value]) in ranks for value in range(256)),
        normalizes=False,
    )
