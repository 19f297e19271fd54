"""The vocabulary of a GGUF file: what each id adds to a text."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_api.pipeline.worker.gguf_file import GgufError, inspect_gguf
from glm_api.pipeline.worker.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    bytes_of_letters,
    letters_of_bytes,
    read_gguf_vocabulary,
)
from tests.support.model_files.gguf import Value, gguf, zeros

Token = tuple[str | bytes, int]
SENTENCEPIECE: list[Token] = [
    ("<unk>", UNKNOWN),
    ("<s>", CONTROL),
    *((f"<0x{byte:02X}>", BYTE) for byte in range(256)),
    ("▁the▁", NORMAL),
    ("天气", NORMAL),
    ("```python", USER_DEFINED),
    ("<|user|>", CONTROL),
    ("[PAD1]", UNUSED),
    ("[PAD2]", UNUSED),
]


def content(tokenizer: str, tokens: list[Token], extra: dict[str, Value] | None = None) -> bytes:
    texts = [text.encode() if isinstance(text, str) else text for text, _ in tokens]
    described: dict[str, Value] = {
        "general.architecture": "chatglm",
        "chatglm.context_length": 128,
        "chatglm.embedding_length": 8,
        "chatglm.block_count": 1,
        "chatglm.attention.head_count": 4,
        "tokenizer.ggml.model": tokenizer,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
    }
    return gguf(described | (extra or {}), {"token_embd.weight": zeros(8, len(tokens))})


def read(folder: Path, tokenizer: str, tokens: list[Token], extra: dict[str, Value] | None = None) -> Vocabulary:
    path = folder / "model.gguf"
    path.write_bytes(content(tokenizer, tokens, extra))
    return read_gguf_vocabulary(inspect_gguf(path))


def test_a_sentencepiece_vocabulary_is_read(tmp_path: Path) -> None:
    vocabulary = read(tmp_path, "llama", SENTENCEPIECE)
    assert vocabulary.pieces[:2] == [" ⁇ ".encode(), b""]
    assert vocabulary.pieces[2:258] == [bytes([byte]) for byte in range(256)]
    assert vocabulary.pieces[258:] == [b" the ", "天气".encode(), b"```python", b""]
    assert vocabulary.specials == {"<s>": 1, "```python": 260, "<|user|>": 261}
    assert vocabulary.longest_piece == len("```python")
    assert vocabulary.begins_with_space
    assert vocabulary.covers_all
    assert not vocabulary.normalizes


def test_a_vocabulary_of_letters_for_bytes_is_read(tmp_path: Path) -> None:
    data = [*(bytes([byte]) for byte in range(256)), " 天气".encode(), "天".encode()[:2]]
    tokens: list[Token] = [(letters_of_bytes(piece), NORMAL) for piece in data]
    vocabulary = read(tmp_path, "gpt2", [*tokens, ("<|user|>", CONTROL), ("Ġword", USER_DEFINED), ("[PAD1]", UNUSED)])
    assert vocabulary.pieces == [*data, b"", "Ġword".encode()]
    assert vocabulary.specials == {"<|user|>": 258, "Ġword": 259}
    assert vocabulary.longest_piece == len(" 天气".encode())
    assert not vocabulary.begins_with_space
    assert vocabulary.covers_all


def test_a_vocabulary_without_some_bytes_does_not_cover_all(tmp_path: Path) -> None:
    assert not read(tmp_path, "llama", SENTENCEPIECE[3:]).covers_all
    assert not read(tmp_path, "gpt2", [("a", NORMAL), ("b", NORMAL)]).covers_all


def test_tokens_without_types_are_ordinary(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(
        content("llama", [("a", NORMAL)]).replace(b"tokenizer.ggml.token_type", b"tokenizer.ggml.token_tipe")
    )
    assert read_gguf_vocabulary(inspect_gguf(path)).pieces == [b"a"]


@pytest.mark.parametrize(
    ("tokenizer", "tokens", "extra", "said"),
    [
        ("rwkv", [("a", NORMAL)], {}, "unknown type 'rwkv'"),
        ("llama", [("a", NORMAL)], {"tokenizer.ggml.token_type": []}, "of what type"),
        ("llama", [("a", NORMAL)], {"tokenizer.ggml.token_type": 1}, "of what type"),
        ("llama", [("<0x100>", BYTE)], {}, "for a byte"),
        ("llama", [("byte", BYTE)], {}, "for a byte"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_refused(
    tokenizer: str, tokens: list[Token], extra: dict[str, Value], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        read(tmp_path, tokenizer, tokens, extra)


@given(data=st.binary())
def test_letters_stand_for_all_bytes(data: bytes) -> None:
    letters = letters_of_bytes(data)
    assert bytes_of_letters(letters) == data
    assert letters.decode().isprintable()
    assert b" " not in letters


@settings(deadline=None)
@given(data=st.data(), tokenizer=st.sampled_from(["llama", "gpt2"]))
def test_a_damaged_vocabulary_is_read_or_refused(
    data: st.DataObject, tokenizer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kinds = st.integers(-1, 9)
    tokens = data.draw(st.lists(st.tuples(st.binary(max_size=8) | st.just(b"<0xFFF>"), kinds), min_size=1, max_size=8))
    whole = content(tokenizer, list(tokens))
    at = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("damaged") / "model.gguf"
    path.write_bytes(whole[:at] + data.draw(st.binary(min_size=1, max_size=1)) + whole[at + 1 :])
    with suppress(GgufError, ValueError):
        read_gguf_vocabulary(inspect_gguf(path))
