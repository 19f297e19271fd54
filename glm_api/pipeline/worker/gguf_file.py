"""Check a GGUF model file before llama.cpp opens it.

This module reads the metadata and the table of tensors (some megabytes, most of them vocabulary). It says in one line
what is wrong with a file, and computes how much memory the cache slots of the model take. It does not read the weights.

The layout is that of llama.cpp's `gguf_init_from_file`, and the checks are at least as strict: data of tensors follow
one another without gaps. What a key means is told by llama.cpp's `llama_model::load_hparams` and `llama_vocab`.
"""

from __future__ import annotations

import array
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from glm_api.pipeline.worker.model_file import how_to_mend, kind_of
from glm_api.pipeline.worker.service import LoadError


class GgufError(LoadError):
    """The file cannot be served; the message says in one line why, and what to do."""


Family: TypeAlias = Literal["ChatGLM2", "ChatGLM3", "ChatGLM4"]

# Keys of our own, in files that `repack` writes.
FAMILY_KEY: Final = "glm_api.family"
# A digest of the file that was repacked.
SOURCE_KEY: Final = "glm_api.source"
# What the tokenizer of the original file does. `tokenizer.ggml.add_space_prefix` is what llama.cpp is told.
SPACE_PREFIX_KEY: Final = "glm_api.add_space_prefix"

PROJECTOR_ARCHITECTURE: Final = "clip"
ALIGNMENT: Final = 32

# Bounds of what is read. Real files have 30 megabytes of metadata and 800,000 strings at the most.
_MOST_HEADER_BYTES: Final = 128 * 1024 * 1024
_MOST_STRINGS: Final = 1 << 21
_MOST_KEYS: Final = 1 << 16
_MOST_TENSORS: Final = 1 << 16
_LONGEST_KEY: Final = (1 << 16) - 1
# GGML_MAX_NAME, with the zero at its end.
_LONGEST_TENSOR_NAME: Final = 63
_MOST_DIMENSIONS: Final = 4
_MOST_ALIGNMENT: Final = 1 << 16
# LLAMA_MAX_LAYERS
_MOST_LAYERS: Final = 512
_MOST: Final = (1 << 31) - 1
_FIRST_READ: Final = 1 << 20
_LONGEST_QUOTE: Final = 60

# For each ggml_type of llama.cpp b11549 that a file may have: values in a block, and bytes of a block.
BLOCKS: Final[Mapping[int, tuple[int, int]]] = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    9: (32, 40),  # Q8_1
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
    40: (64, 36),  # NVFP4
    41: (128, 18),  # Q1_0
    42: (64, 18),  # Q2_0
}

# Types of metadata, with the code of each in `array` and `struct`.
_BOOL, _STRING, _ARRAY = 7, 8, 9
_CODES: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "b", 10: "Q", 11: "q", 12: "d"}

_SPLIT_NAME: Final = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf", flags=re.DOTALL)
_HOW_TO_GET_ONE: Final = "Set GLM_MODEL to a GGUF model."
_GET_AGAIN: Final = "Download it again."
_INCOMPLETE: Final = "ends too early: the download or copy is incomplete."

# What the tokenizers of the chatglm architecture name their special tokens.
_ROLES: Final = frozenset({b"<|system|>", b"<|user|>", b"<|assistant|>", b"<|observation|>"})
_ENDS: Final = frozenset({b"<|user|>", b"<|observation|>", b"<|endoftext|>"})
_CHATGLM2_SPECIALS: Final = frozenset({b"[gMASK]", b"sop"})
# `repack` writes "<sop>" for "sop".
_REPACKED_SPECIALS: Final = frozenset({b"[gMASK]", b"<sop>"})
_CHATGLM4_SPECIALS: Final = frozenset({b"[gMASK]", b"<sop>", b"<|endoftext|>"})
# The first special token of GLM-4 has this id. GLM-Edge has the same names in a smaller vocabulary, and other prompts.
_GLM4_END: Final = 151_329
_END_KEYS: Final = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


class Strings:
    """An array of strings, which need not be UTF-8; iterate over it to get them as bytes."""

    __slots__ = ("_count", "_data")

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        data, position, length_at = self._data, 0, struct.Struct("<Q").unpack_from
        for _ in range(self._count):
            begin = position + 8
            position = begin + length_at(data, position)[0]
            yield data[begin:position]


Value: TypeAlias = "bool | int | float | str | Strings | array.array[int] | array.array[float]"


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's place: ``bytes`` from ``offset`` on in ``path``. The first extent of ``shape`` is that of a row."""

    shape: tuple[int, ...]
    type: int
    path: Path
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF model says of itself. A projector has no context, no vocabulary and no layers."""

    path: Path
    parts: tuple[Path, ...]
    """All files of a split model, the first one included; otherwise the file alone."""
    architecture: str
    name: str
    metadata: Mapping[str, Value]
    """That of the first part."""
    tensors: Mapping[str, GgufTensor]
    """Those of all parts."""
    file_bytes: int
    """Bytes of all parts."""
    context_length: int
    """The context that the model was trained for, in tokens."""
    vocabulary_size: int
    """The number of logits, which is that of the rows of the embeddings."""
    layers: int
    """Without those that only predict further tokens, which llama.cpp does not run."""
    cached_values: int
    """The numbers that a token adds to a cache slot, in all layers together."""
    end_ids: frozenset[int]
    chat_template: str | None
    add_space_prefix: bool
    """Whether llama.cpp puts a space in front of every text."""
    tokenizer_model: str
    tokenizer_pre: str
    family: Family | None
    """The name of the format that this server has for the model, or None: then the file's template writes prompts."""

    @property
    def strips_spaces(self) -> bool:
        """Whether llama.cpp strips the space in front of the pieces that it shows to its grammars, which then fail."""
        return self.tokenizer_model == "llama" and self.add_space_prefix

    @property
    def is_projector(self) -> bool:
        """Whether the file is the part of a model that sees or hears, which llama.cpp loads beside the model."""
        return self.architecture == PROJECTOR_ARCHITECTURE

    def slot_bytes(self, context: int) -> int:
        """Return the bytes of a cache slot of ``context`` tokens: keys and values of 16 bits.

        It counts full attention in every layer. Layers with a sliding window take less. The state of recurrent layers,
        which does not grow with the context, is not counted. A model that has no other layers has slots of 1 byte.
        """
        # Never 0: memory is divided by it.
        return max(1, 2 * self.cached_values * context)


class _Damaged(Exception):
    """The message says what is wrong; it follows "is damaged:"."""


class _Truncated(Exception):
    pass


def inspect_gguf(path: Path) -> GgufFile:
    """Read metadata and tables of all parts; check that they make sense and that the parts hold what they say.

    Raises `GgufError`.
    """
    first = _read_part(path)
    with _naming(path):
        parts = _parts(path, first.metadata)
    tensors = dict(first.tensors)
    file_bytes = first.file_bytes
    for number, part in enumerate(parts[1:], 1):
        more = _read_part(part)
        with _naming(part):
            if (_integer(more.metadata, "split.no", 0), _integer(more.metadata, "split.count", 0)) != (
                number,
                len(parts),
            ):
                raise _Damaged(f"it is not part {number + 1} of {len(parts)}")
            if not tensors.keys().isdisjoint(more.tensors):
                raise _Damaged("it has tensors that another part has too")
        tensors |= more.tensors
        file_bytes += more.file_bytes
    with _naming(path):
        expected = _integer(first.metadata, "split.tensors.count", len(tensors))
        if len(parts) > 1 and expected != len(tensors):
            raise _Damaged(f"its parts have {len(tensors)} tensors, not {expected}")
        return _describe(path, parts, first.metadata, tensors, file_bytes)


class _naming:
    """Let what is raised in the block become a `GgufError` that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        name = self._path.name
        match error:
            case _Damaged():
                raise GgufError(f"{name} is damaged: {error}. {_GET_AGAIN}") from None
            case _Truncated():
                raise GgufError(f"{name} {_INCOMPLETE}") from None
            case IsADirectoryError():
                raise GgufError(f"{name} is a directory, not a GGUF file. {_HOW_TO_GET_ONE}") from None
            case OSError():
                raise GgufError(f"{name} cannot be read: {error.strerror}. Check GLM_MODEL.") from None


# --- one file ---


@dataclass(frozen=True, slots=True)
class _Part:
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]
    file_bytes: int


class _Reader:
    """Reads the beginning of a file. What was read stays in memory, so the bound of it is a bound of memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self._data = b""
        self.position = 0
        self._strings = 0

    def _hold(self, end: int) -> None:
        """Hold the bytes up to ``end``. Raises `_Truncated` and `_Damaged`."""
        if end <= len(self._data):
            return
        if end > self.size:
            raise _Truncated
        if end > _MOST_HEADER_BYTES:
            raise _Damaged("its metadata are longer than those of any model")
        # Twice as much each time, so that the copying of what is held already costs little.
        wanted = max(end, 2 * len(self._data), _FIRST_READ) - len(self._data)
        self._data += self._file.read(wanted)
        if end > len(self._data):
            raise _Truncated

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self.position + count
        self._hold(end)
        data = self._data[self.position : end]
        self.position = end
        return data

    def number(self, code: str) -> int:
        """Return the next integer, of the type that ``code`` is in `struct`."""
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(code)))
        return int(value)

    def name(self, longest: int) -> str:
        """Return the next string, of ``longest`` bytes at the most."""
        begin = self.position
        length = self.number("Q")
        if length > longest:
            raise _Damaged(f"it has a name of {length} bytes")
        self.position = begin
        return self.text()

    def text(self) -> str:
        """Return the next string."""
        length = self.number("Q")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise _Damaged("it has a text that is not UTF-8") from None

    def strings(self, count: int) -> Strings:
        """Return the next ``count`` strings."""
        self._strings += count
        if self._strings > _MOST_STRINGS:
            raise _Damaged("it has more texts than any model")
        begin = position = self.position
        length_at = struct.Struct("<Q").unpack_from
        held = len(self._data)
        for _ in range(count):
            if position + 8 > held:
                self._hold(position + 8)
                held = len(self._data)
            position += 8 + length_at(self._data, position)[0]
        self._hold(position)
        self.position = position
        return Strings(self._data[begin:position], count)

    def value(self) -> Value:
        """Return the next value of the metadata, behind its type."""
        kind = self.number("I")
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            kind, count = self.number("I"), self.number("Q")
            if kind == _STRING:
                return self.strings(count)
            code = _code(kind)
            values = array.array(code)
            values.frombytes(self.take(count * values.itemsize))
            return values
        code = _code(kind)
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))
        number: int | float = value
        return bool(number) if kind == _BOOL else number


def _code(kind: int) -> str:
    if kind not in _CODES:
        raise _Damaged(f"it has a value of unknown type {kind}")
    return _CODES[kind]


def _read_part(path: Path) -> _Part:
    with _naming(path), path.open("rb") as file:
        reader = _Reader(file)
        _read_magic(path, reader)
        tensor_count, key_count = reader.number("Q"), reader.number("Q")
        if tensor_count > _MOST_TENSORS or key_count > _MOST_KEYS:
            raise _Damaged(f"it says that it has {tensor_count} tensors and {key_count} keys")
        metadata: dict[str, Value] = {}
        for _ in range(key_count):
            key = reader.name(_LONGEST_KEY)
            if key in metadata or not key:
                raise _Damaged(f"it has the key {_quoted(key)} twice" if key else "it has a key without a name")
            metadata[key] = reader.value()
        return _Part(metadata, _read_tensors(path, reader, tensor_count, metadata), reader.size)


def read_entries(path: Path) -> dict[str, bytes]:
    """Return the metadata of a file that `inspect_gguf` accepts: for each key the bytes of the key and its value.

    Raises `GgufError`.
    """
    with _naming(path), path.open("rb") as file:
        reader = _Reader(file)
        _read_magic(path, reader)
        reader.number("Q")
        entries: dict[str, bytes] = {}
        for _ in range(reader.number("Q")):
            begin = reader.position
            key = reader.name(_LONGEST_KEY)
            reader.value()
            end, reader.position = reader.position, begin
            entries[key] = reader.take(end - begin)
        return entries


def _read_magic(path: Path, reader: _Reader) -> None:
    magic = reader.take(min(24, reader.size))
    if magic.startswith(b"ggml"):
        raise GgufError(f"{path.name} is a GGML file, made for chatglm.cpp, not a GGUF file. {_HOW_TO_GET_ONE}")
    if not magic.startswith(b"GGUF"):
        kind = kind_of(magic) or "not a GGUF file"
        raise GgufError(f"{path.name} is {kind}. {how_to_mend(kind, _HOW_TO_GET_ONE)}")
    reader.position = 4
    version = reader.number("I")
    if version and not version & 0xFFFF:
        raise GgufError(f"{path.name} is a big-endian GGUF file, and this machine is little-endian. {_HOW_TO_GET_ONE}")
    if version not in (2, 3):
        raise GgufError(f"{path.name} has GGUF version {version}; versions 2 and 3 can be read. {_HOW_TO_GET_ONE}")


def _read_tensors(path: Path, reader: _Reader, count: int, metadata: Mapping[str, Value]) -> Mapping[str, GgufTensor]:
    alignment = _integer(metadata, "general.alignment", ALIGNMENT, most=_MOST_ALIGNMENT)
    if alignment.bit_count() != 1:
        raise _Damaged(f"it aligns its tensors at {alignment} bytes")
    found: list[tuple[str, tuple[int, ...], int, int]] = []
    end = 0
    for _ in range(count):
        name = reader.name(_LONGEST_TENSOR_NAME)
        dimensions = reader.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise _Damaged(f"its tensor {_quoted(name)} has {dimensions} dimensions")
        shape = struct.unpack(f"<{dimensions}Q", reader.take(8 * dimensions))
        type, offset = reader.number("I"), reader.number("Q")
        if type not in BLOCKS:
            raise _Damaged(f"its tensor {_quoted(name)} is of unknown type {type}")
        values, block = BLOCKS[type]
        if (shape[0] if shape else 1) % values or 0 in shape:
            raise _Damaged(f"its tensor {_quoted(name)} is not whole blocks")
        if offset != end:
            raise _Damaged(f"the data of its tensor {_quoted(name)} are not behind those of the tensor before it")
        size = math.prod(shape) // values * block
        end = aligned(offset + size, alignment)
        found.append((name, shape, type, size))
    tensors: dict[str, GgufTensor] = {}
    position = aligned(reader.position, alignment)
    for name, shape, type, size in found:
        if name in tensors:
            raise _Damaged(f"it has the tensor {_quoted(name)} twice")
        tensors[name] = GgufTensor(shape, type, path, position, size)
        if position + size > reader.size:
            raise _Truncated
        position = aligned(position + size, alignment)
    return tensors


def aligned(position: int, alignment: int = ALIGNMENT) -> int:
    """Return the least multiple of ``alignment``, a power of 2, that is not below ``position``."""
    return (position + alignment - 1) & -alignment


def _quoted(text: str) -> str:
    return repr(text[:_LONGEST_QUOTE])


# --- what the metadata mean ---


def _parts(path: Path, metadata: Mapping[str, Value]) -> tuple[Path, ...]:
    """Return the files of the model whose first part is ``path``. Raises `GgufError` if it is another part."""
    count = _integer(metadata, "split.count", 1)
    if count <= 1:
        return (path,)
    number = _integer(metadata, "split.no", 0)
    name = _SPLIT_NAME.fullmatch(path.name)
    if name is None or int(name["part"]) != number + 1 or int(name["count"]) != count:
        raise GgufError(
            f"{path.name} is part {number + 1} of {count} of a split model: its name must end in "
            f"-{number + 1:05d}-of-{count:05d}.gguf, as it did where it comes from."
        )
    names = [f"{name['stem']}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1)]
    if number:
        raise GgufError(f"{path.name} is part {number + 1} of {count} of a model. Set GLM_MODEL to {names[0]}.")
    parts = tuple(path.with_name(part) for part in names)
    for part in parts:
        if not part.exists():
            raise GgufError(
                f"{part.name} is missing: {path.name} is split, and needs all parts beside it. Download it."
            )
    return parts


def _describe(
    path: Path,
    parts: tuple[Path, ...],
    metadata: Mapping[str, Value],
    tensors: Mapping[str, GgufTensor],
    file_bytes: int,
) -> GgufFile:
    architecture = _text(metadata, "general.architecture")
    if not architecture:
        raise GgufError(f"{path.name} does not say of what architecture its model is. {_HOW_TO_GET_ONE}")
    kind = _text(metadata, "general.type") or "model"
    if kind in ("adapter", "imatrix"):
        raise GgufError(f"{path.name} is a part of a model or its by-product ({kind}), not a model. {_HOW_TO_GET_ONE}")
    projector = architecture == PROJECTOR_ARCHITECTURE
    tokenizer = _text(metadata, "tokenizer.ggml.model")
    tokens = metadata.get("tokenizer.ggml.tokens")
    rows = 0
    if not (projector or tokenizer or "token_embd.weight" in tensors):
        raise GgufError(f"{path.name} holds no language model ({_quoted(architecture)}). {_HOW_TO_GET_ONE}")
    if not projector:
        rows = _vocabulary_size(tensors)
        if not tokenizer or not isinstance(tokens, Strings):
            raise _Damaged("it has no tokenizer")
        if len(tokens) != rows:
            raise _Damaged(f"it has {len(tokens)} tokens, but embeddings of {rows}")
    template = _text(metadata, "tokenizer.chat_template") or None
    special = _chatglm_ids(tokens) if architecture == "chatglm" and isinstance(tokens, Strings) else {}
    layers = 0 if projector else _layers(architecture, metadata)
    return GgufFile(
        path=path,
        parts=parts,
        architecture=architecture,
        name=" ".join(_text(metadata, "general.name").split()),
        metadata=metadata,
        tensors=tensors,
        file_bytes=file_bytes,
        context_length=0 if projector else _integer(metadata, f"{architecture}.context_length", least=1),
        vocabulary_size=rows,
        layers=layers,
        cached_values=0 if projector else _cached_values(architecture, metadata, layers),
        end_ids=_end_ids(metadata, rows) | {id for name, id in special.items() if name in _ENDS},
        chat_template=template,
        add_space_prefix=_flag(metadata, "tokenizer.ggml.add_space_prefix", tokenizer == "llama"),
        tokenizer_model=tokenizer,
        tokenizer_pre=_text(metadata, "tokenizer.ggml.pre"),
        family=_family(architecture, tokenizer, special, template, _text(metadata, FAMILY_KEY)),
    )


def _vocabulary_size(tensors: Mapping[str, GgufTensor]) -> int:
    embeddings = tensors.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise _Damaged("it has no embeddings")
    return embeddings.shape[1]


def _layers(architecture: str, metadata: Mapping[str, Value]) -> int:
    layers = _integer(metadata, f"{architecture}.block_count", least=1, most=_MOST_LAYERS)
    return layers - _integer(metadata, f"{architecture}.nextn_predict_layers", 0, most=layers - 1)


def _cached_values(architecture: str, metadata: Mapping[str, Value], layers: int) -> int:
    """Return the numbers that a token adds to a cache slot, in all layers together."""
    attention = f"{architecture}.attention"
    heads = _per_layer(metadata, f"{attention}.head_count", layers, [0] * layers)
    kv_heads = _per_layer(metadata, f"{attention}.head_count_kv", layers, heads)
    # llama.cpp ends its process at what these two checks find; at other sizes that do not fit it says so.
    if any(shared and own % shared for own, shared in zip(heads, kv_heads, strict=True)):
        raise _Damaged("its attention heads cannot share its key-value heads")
    hidden = _integer(metadata, f"{architecture}.embedding_length", least=1)
    head = hidden // max(heads) if any(heads) else 0
    keys = _integer(metadata, f"{attention}.key_length", head)
    values = _integer(metadata, f"{attention}.value_length", head)
    rotated = _integer(metadata, f"{architecture}.rope.dimension_count", 0)
    if keys and rotated > keys:
        raise _Damaged(f"it rotates {rotated} of the {keys} numbers of a key")
    # Multi-head latent attention: one head, whose values are a part of its keys. It is computed like that only from
    # files that have these two.
    if all(_integer(metadata, f"{attention}.{name}_length_mla", 0) for name in ("key", "value")):
        rank = _integer(metadata, f"{attention}.kv_lora_rank", 0)
        keys = keys or rank + rotated
        values = 0
    # DeepSeek's sparse attention has keys for each token by which it is found.
    indexer = _integer(metadata, f"{attention}.indexer.key_length", 0)
    return sum(kv_heads) * (keys + values) + layers * indexer


def _end_ids(metadata: Mapping[str, Value], rows: int) -> frozenset[int]:
    # llama.cpp too disregards an id that the vocabulary does not have.
    return frozenset(id for key in _END_KEYS if (id := _integer(metadata, key, _MOST, most=_UNSIGNED)) < rows)


def _chatglm_ids(tokens: Strings) -> dict[bytes, int]:
    names = _ROLES | _ENDS | _CHATGLM2_SPECIALS | _CHATGLM4_SPECIALS
    return {token: id for id, token in enumerate(tokens) if token in names}


def _family(
    architecture: str, tokenizer: str, special: Mapping[bytes, int], template: str | None, said: str
) -> Family | None:
    """Return the family of a model of architecture chatglm, by its special tokens; ``said`` is our own key's value."""
    if architecture != "chatglm":
        return None
    names = special.keys()
    if tokenizer == "llama" and (names >= _CHATGLM2_SPECIALS or (said and names >= _REPACKED_SPECIALS)):
        return "ChatGLM3" if names >= _ROLES else "ChatGLM2"
    if tokenizer == "gpt2" and names >= _CHATGLM4_SPECIALS | _ROLES:
        # GLM-Edge begins its prompts without these two.
        glm4 = special[b"<|endoftext|>"] == _GLM4_END if template is None else "[gMASK]" in template
        return "ChatGLM4" if glm4 or said == "ChatGLM4" else None
    return None


# --- typed values ---

_UNSIGNED: Final = (1 << 32) - 1


def _integer(
    metadata: Mapping[str, Value], key: str, default: int | None = None, *, least: int = 0, most: int = _MOST
) -> int:
    """Return an integer from ``least`` to ``most``, or ``default`` if it is absent; None: then it may not be."""
    value = metadata.get(key, default)
    if value is None:
        raise _Damaged(f"it has no {_quoted(key)}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Damaged(f"its {_quoted(key)} is not a number")
    if key in metadata and not least <= value <= most:
        raise _Damaged(f"its {_quoted(key)} is {value}")
    return value


def _per_layer(metadata: Mapping[str, Value], key: str, layers: int, default: list[int]) -> list[int]:
    """Return an integer for each layer. The file has one for all, or one for each."""
    value = metadata.get(key)
    if value is None:
        return default
    if not isinstance(value, array.array):
        return [_integer(metadata, key)] * layers
    numbers = [number for number in value if isinstance(number, int) and 0 <= number <= _MOST]
    if len(numbers) != len(value) or len(numbers) < layers:
        raise _Damaged(f"its {_quoted(key)} is not a number for each layer")
    return numbers[:layers]


def _text(metadata: Mapping[str, Value], key: str) -> str:
    """Return a text, empty if it is absent."""
    value = metadata.get(key, "")
    if not isinstance(value, str):
        raise _Damaged(f"its {_quoted(key)} is not a text")
    return value


def _flag(metadata: Mapping[str, Value], key: str, default: bool) -> bool:
    value = metadata.get(key, default)
    if not isinstance(value, bool):
        raise _Damaged(f"its {_quoted(key)} is neither true nor false")
    return value
