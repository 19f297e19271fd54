"""Small tokenizers of the kinds that the families use: SentencePiece models and tiktoken ranks, built from word lists.

SentencePiece models are protocol buffers of a dozen fields. They are written here, so that the tests need no
sentencepiece package. They are like the real ones in everything that formats depend on: BPE with byte fallback, a space
in front of every text, white space kept, special tokens as control pieces.
"""

from __future__ import annotations

import base64
import string
import struct
from collections.abc import Iterable, Mapping

WORDS = (
    "▁the ▁of ▁to ▁and ▁hello ▁weather ▁you ▁is ▁in ▁tool ▁get_weather get_weather ▁Answer ▁question name description "
    "parameters ing tion 你好 天气 北京 今天 一个 人工智能 助手 模型"
).split()
# Merges of white space, such as GLM-4's tokenizer has.
WHITE_SPACE = (
    "  ",
    "   ",
    "    ",
    "\n\n",
    " \n",
    "。\n",
    "\u3000\u3000",
    "\u3000你",
    "\xa0\xa0",
    " \xa0 \xa0",
    "  \xa0",
)
CHARACTERS = (
    string.digits + string.ascii_letters + string.punctuation + "，。！？：；、“”（）"
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手"
    "用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使"
    "教西再平真听世气信北京市晴温度今答助智能型言语"
)

# sentencepiece_model.proto: ModelProto.SentencePiece.Type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

Piece = tuple[str, int]


def sentencepiece_pieces() -> list[Piece]:
    """Return the vocabulary of ChatGLM2 and ChatGLM3; `</s>` is id 2, as in the real ones."""
    specials = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    code = [(text, USER_DEFINED) for text in ("```python", "tool_call(")]
    return [*specials, *_bytes(), *code, *_merges()]


def chatglm_pieces() -> list[Piece]:
    """Return the vocabulary of ChatGLM-6B: white space and special tokens are pieces of their own."""
    begin = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("<pad>", CONTROL)]
    blanks = [("<n>", USER_DEFINED), ("<|tab|>", USER_DEFINED)]
    blanks += [(f"<|blank_{length}|>", USER_DEFINED) for length in range(2, 81)]
    specials = [(text, CONTROL) for text in ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")]
    return [*begin, *_bytes(), *blanks, *_merges(), *specials]


def sentencepiece_model(pieces: Iterable[Piece]) -> bytes:
    """Return a serialized SentencePiece BPE model; earlier pieces are merged first."""
    data = b""
    for rank, (text, kind) in enumerate(pieces):
        piece = _string(1, text.encode()) + _float(2, -float(rank)) + _number(3, kind)
        data += _string(1, piece)
    trainer = _number(3, 2) + _number(35, 1)  # model_type BPE, byte_fallback
    normalizer = _string(1, b"identity") + _number(3, 1) + _number(4, 0) + _number(5, 1)
    return data + _string(2, trainer) + _string(3, normalizer)


# If a field has two values, the last one counts. So appending a field to a serialized model changes it.


def without_dummy_prefix(model: bytes) -> bytes:
    """Return ``model`` changed to put no space in front of a text, like CodeGeeX2's."""
    return model + _string(3, _number(3, 0))


def unigram(model: bytes, rules: Mapping[str, str]) -> bytes:
    """Return ``model`` as one like ChatGLM-6B's: unigram, rewriting by ``rules``, no white space at ends or twice."""
    return model + _string(2, _number(3, 1)) + _string(3, _string(2, _precompiled(rules)) + _number(4, 1))


def _precompiled(rules: Mapping[str, str]) -> bytes:
    """Compile ``rules`` as SentencePiece does: a Darts-clone double array from texts to offsets of their new ones."""
    states = {text.encode()[:length]: 0 for text in rules for length in range(len(text.encode()) + 1)}
    # Each state has a block of its own for its successors, so that none of them collide.
    blocks = {prefix: 256 * (index + 1) for index, prefix in enumerate(states)}
    units = [0] * (256 * (len(states) + 1))
    for prefix in states:
        at = blocks[prefix[:-1]] ^ prefix[-1] if prefix else 0
        units[at] |= (at ^ blocks[prefix]) << 10 | (prefix[-1] if prefix else 0)
        states[prefix] = at
    replacements = b""
    for text, replacement in rules.items():
        units[states[text.encode()]] |= 1 << 8  # it has a value, in the unit of the label 0
        units[blocks[text.encode()]] = 1 << 31 | len(replacements)
        replacements += replacement.encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + replacements


def tiktoken_tokens() -> list[bytes]:
    """Return GLM-4's vocabulary without special tokens: all bytes, then merges. A token's index is its rank."""
    tokens = [bytes([value]) for value in range(256)]
    words = (*(word.replace("▁", " ") for word in WORDS), '{"', '":', '"}', *WHITE_SPACE, *CHARACTERS)
    for word in map(str.encode, words):
        tokens += [word[:length] for length in range(2, len(word) + 1)]
    return list(dict.fromkeys(tokens))


def tiktoken_ranks(tokens: Iterable[bytes]) -> bytes:
    """Return a tiktoken file: one base64 token and its rank a line."""
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens))


def _bytes() -> list[Piece]:
    return [(f"<0x{value:02X}>", BYTE) for value in range(256)]


def _merges() -> list[Piece]:
    """Return words, each with all of its beginnings, so that merges reach it; then single characters."""
    texts = [word[:length] for word in WORDS for length in range(2, len(word) + 1)]
    return [(text, NORMAL) for text in dict.fromkeys([*texts, "▁", *CHARACTERS])]


def _varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _string(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
