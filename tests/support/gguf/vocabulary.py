"""The vocabularies of GLM models, reduced to single bytes, the special tokens and the pieces of a script."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.gguf.file import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Metadata, floats

CONTROL_TOKENS = [
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>"),
]
# Tokens that llama.cpp shows in an answer. A prompt's text can produce them.
TEXT_TOKENS = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink"),
]
CHATGLM3_TOKENS = [
    *("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
]


@dataclass(frozen=True)
class Vocabulary:
    """``ids``: the id of each token, by the text that it stands for; tokens of single bytes only if they are ASCII."""

    metadata: Metadata
    ids: dict[str, int]
    size: int


def byte_pairs(pre: str, triggers: Iterable[str], pieces: Iterable[str]) -> Vocabulary:
    """Return a vocabulary as GLM-4 and all later models have it, without merges: a prompt's text becomes single bytes.

    ``pre``: the name by which llama.cpp knows how the text is cut into words. ``triggers``: further tokens that a
    prompt's text can produce. ``pieces``: further tokens that only the model can produce.
    """
    characters = _byte_characters()
    ids = {chr(byte): byte for byte in range(0x80)}
    tokens, kinds = characters[:], [NORMAL] * len(characters)

    def add(text: str, kind: int) -> None:
        if text not in ids:
            ids[text] = len(tokens)
            tokens.append("".join(characters[byte] for byte in text.encode()) if kind == NORMAL else text)
            kinds.append(kind)

    for text in CONTROL_TOKENS:
        add(text, CONTROL)
    for text in [*TEXT_TOKENS, *triggers]:
        add(text, USER_DEFINED)
    for text in pieces:
        add(text, NORMAL)
    metadata: Metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        # llama.cpp refuses a file without merges; this one applies to no text.
        "tokenizer.ggml.merges": [f"{characters[0]} {characters[1]}"],
        "tokenizer.ggml.bos_token_id": ids["[gMASK]"],
        "tokenizer.ggml.eos_token_id": ids["<|endoftext|>"],
        "tokenizer.ggml.eot_token_id": ids["<|user|>"],
        "tokenizer.ggml.eom_token_id": ids["<|observation|>"],
        "tokenizer.ggml.unknown_token_id": ids["<|endoftext|>"],
        "tokenizer.ggml.padding_token_id": ids["<|endoftext|>"],
        "tokenizer.ggml.add_bos_token": False,
    }
    return Vocabulary(metadata, ids, len(tokens))


def sentence_pieces(add_space_prefix: bool, triggers: Iterable[str], pieces: Iterable[str]) -> Vocabulary:
    """Return a vocabulary as ChatGLM3 has it: SentencePiece's, with the special tokens behind.

    ``add_space_prefix``: whether a text begins with a token for a space, as a file says that does not say otherwise.
    """
    ids: dict[str, int] = {}
    tokens: list[str] = []
    kinds: list[int] = []

    def add(text: str, token: str, kind: int) -> None:
        if text not in ids:
            ids[text] = len(tokens)
            tokens.append(token)
            kinds.append(kind)

    for token, kind in [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]:
        add(token, token, kind)
    for byte in range(256):
        # Printable characters have tokens of their own, which are the ones to find.
        name = f"<0x{byte:02X}>"
        add(chr(byte) if byte < 0x20 else name, name, BYTE)
    for text in [" ", *map(chr, range(0x21, 0x7F)), *pieces]:
        if text not in CHATGLM3_TOKENS:
            add(text, text.replace(" ", "▁"), NORMAL)
    for text in CHATGLM3_TOKENS:
        add(text, text, CONTROL)
    for text in triggers:
        add(text, text, USER_DEFINED)
    metadata: Metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": floats(*[-1.0] * len(tokens)),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": ids["<s>"],
        "tokenizer.ggml.eos_token_id": ids["</s>"],
        "tokenizer.ggml.unknown_token_id": ids["<unk>"],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": add_space_prefix,
    }
    return Vocabulary(metadata, ids, len(tokens))


def _byte_characters() -> list[str]:
    """Return the character that stands for each byte in GPT-2's vocabularies."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(0x100 + hidden.index(byte)) for byte in range(256)]
