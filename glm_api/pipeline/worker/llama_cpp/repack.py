"""Repack a model file of chatglm.cpp as GGUF: ``python -m glm_api.pipeline.worker.llama_cpp.repack MODEL``.

The blocks of the weights are the same bytes in both kinds of file, so nothing is converted: names, header and tokenizer
change. The program prints one line of JSON, ``{"path": ...}`` or ``{"error": ...}``. It tells of its progress on
standard error.

The result lies beside the model, or in a cache folder if nothing can be written there. It is found again by a digest of
the model's content, so it is written once, whatever the model is called and wherever it lies.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import signal
import struct
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final

from glm_api.pipeline.worker.gguf_file import (
    ALIGNMENT,
    BLOCKS,
    FAMILY_KEY,
    SOURCE_KEY,
    SPACE_PREFIX_KEY,
    Family,
    GgufError,
    GgufFile,
    aligned,
    inspect_gguf,
    read_entries,
)
from glm_api.pipeline.worker.model_file import (
    CHATGLM,
    CHATGLM2,
    CHATGLM3,
    CHATGLM4,
    CHATGLM4V,
    ModelFile,
    ModelFileError,
    inspect,
)
from glm_api.pipeline.worker.vocabulary import (
    CONTROL,
    GGUF_NAMES,
    NORMAL,
    SPECIALS_BEHIND,
    UNUSED,
    USER_DEFINED,
    letters_of_bytes,
    read_pieces,
    read_ranks,
    read_tokenizer,
    read_vocabulary,
)

# Part of the digest, and so of the names of the results. To be changed with what is written.
_LAYOUT: Final = 1
_DIGEST_CHARACTERS: Final = 16
_LONGEST_STEM: Final = 180
_SAMPLE_BYTES: Final = 4096
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_INCOMPLETE: Final = ".gguf.incomplete"
_LEFTOVER: Final = re.compile(rf"[0-9a-f]{{{_DIGEST_CHARACTERS}}}{re.escape(_INCOMPLETE)}")
# Errors at which another folder is tried.
_NOT_WRITABLE: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_PR_SET_PDEATHSIG: Final = 1
_PROGRESS_SECONDS: Final = 0.1
_BAR_WIDTH: Final = 30

_FAMILIES: Final[Mapping[int, Family]] = {CHATGLM2: "ChatGLM2", CHATGLM3: "ChatGLM3", CHATGLM4: "ChatGLM4"}
_CANNOT: Final = {
    CHATGLM: "it is a ChatGLM-6B, which llama.cpp cannot run: serve it with GLM_BACKEND=chatglm-cpp",
    CHATGLM4V: "it is a GLM-4V, which cannot be repacked for llama.cpp: serve it with GLM_BACKEND=chatglm-cpp",
}
# The ends of an answer beside the one that the header names. llama.cpp has a place for three.
_MORE_ENDS: Final = {"eot": "<|user|>", "eom": "<|observation|>"}
_TENSORS: Final = {
    "transformer.embedding.word_embeddings.weight": "token_embd.weight",
    "transformer.encoder.final_layernorm.weight": "output_norm.weight",
    "transformer.output_layer.weight": "output.weight",
}
_LAYER: Final = re.compile(r"transformer\.encoder\.layers\.(\d+)\.(.+)")
_LAYER_TENSORS: Final = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attention.query_key_value.weight": "attn_qkv.weight",
    "self_attention.query_key_value.bias": "attn_qkv.bias",
    "self_attention.dense.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.dense_h_to_4h.weight": "ffn_up.weight",
    "mlp.dense_4h_to_h.weight": "ffn_down.weight",
}
# The version of the layout of quantized blocks, GGML_QNT_VERSION. chatglm.cpp's blocks are of this one.
_QUANTIZATION_VERSION: Final = 2

# GGUF's numbers for the types of values.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


class RepackError(Exception):
    """The model cannot be repacked. The message is one line, which follows "names FILE, but"."""


class _NotWritable(Exception):
    pass


def main() -> None:
    """Repack the file that the command line names, and print the result."""
    # The parent sends this signal to stop the work. Unwinding the stack removes what is incomplete.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    # With `stty tostop` a terminal stops background processes that write to it, as the progress bar does.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    (path,) = sys.argv[1:]
    try:
        result = {"path": str(find_or_repack(Path(path)))}
    except RepackError as error:
        result = {"error": str(error)}
    print(json.dumps(result))


def find_or_repack(path: Path) -> Path:
    """Return the path of the model as a GGUF file that llama.cpp serves well; write it first if it is not found.

    That is the file itself if it is one, unless llama.cpp would drop the grammars of our formats with it. Whoever opens
    a damaged one says what is wrong. Raises `RepackError`.
    """
    path = path.absolute()
    try:
        with path.open("rb", buffering=0) as file:
            if file.read(4) != b"GGUF":
                return _find_or_write(_GgmlSource(_inspect(path), file))
            try:
                gguf = inspect_gguf(path)
            except GgufError:
                return path
            # A split file is of no family that we have a format for.
            if gguf.family is None or not gguf.strips_spaces or len(gguf.parts) > 1:
                return path
            return _find_or_write(_GgufSource(gguf, file))
    except OSError as error:
        raise RepackError(f"it cannot be read ({error.strerror})") from None
    except ModelFileError as error:
        raise RepackError(str(error).removesuffix(".")) from None


def _inspect(path: Path) -> ModelFile:
    """Return what the header of a GGML file says. Raises `RepackError` for one that cannot be repacked."""
    model = inspect(path)
    if model.model_type in _CANNOT:
        raise RepackError(_CANNOT[model.model_type])
    if model.virtual_tokens:
        raise RepackError("it has virtual tokens (P-Tuning), which llama.cpp cannot use: merge them, or serve the base")
    return model


def _find_or_write(source: _Source) -> Path:
    """Return the path of what ``source`` is repacked to. Raises `RepackError`."""
    folders = [source.path.parent, *cache_folders()]
    found = _find(source, folders)
    if found is not None:
        return found
    for folder in folders:
        try:
            return _repack(source, folder)
        except _NotWritable:
            continue
    places = " or ".join(map(str, folders))
    raise RepackError(f"its repacked copy cannot be written to {places}: make one of them writable")


def cache_folders() -> list[Path]:
    """Return the folder for what cannot be written beside its model; nothing if there is none."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    # Without a home directory "~" stays as it is.
    return [Path(base, "glm-api")] if os.path.isabs(base) else []


# --- the model ---


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor by its name in GGUF: ``bytes`` from ``offset`` on in the model file. ``shape`` is in GGUF's order."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    bytes: int


class _Source(ABC):
    """A model file that is open, and what is to be written of it. ``prefix_bytes`` precede the table of tensors."""

    def __init__(self, path: Path, file_bytes: int, prefix_bytes: int, file: BinaryIO) -> None:
        self.path = path
        self._file_bytes = file_bytes
        self._prefix_bytes = prefix_bytes
        self._file = file
        self.tensors: list[_Tensor] = []

    @abstractmethod
    def entries(self) -> list[bytes]:
        """Return the metadata to write. Raises OSError, and ValueError when the tokenizer cannot be repacked."""

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes. Raises `RepackError`, also when the file ends before: it did not in `inspect`."""
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except OSError as error:
            raise RepackError(f"it cannot be read ({error.strerror})") from None
        if len(data) < count:
            raise RepackError("it became shorter while it was read: start again when it is complete")
        return data

    @cached_property
    def digest(self) -> str:
        """The digest of the content.

        It takes in the header, the tokenizer, the table of tensors, and the beginning and the middle of each tensor. To
        read all of it would take minutes at each start where the disk is slow. Two models of one shape differ in all
        tensors that training has touched, and everywhere in them, so the samples differ too.
        """
        digest = hashlib.sha256(f"{_LAYOUT} {self._file_bytes}\n".encode())
        digest.update(self.read(0, self._prefix_bytes))
        for tensor in self.tensors:
            digest.update(f"{tensor.name} {tensor.shape} {tensor.type}\n".encode())
            for offset, count in _samples(tensor.bytes):
                digest.update(self.read(tensor.offset + offset, count))
        return digest.hexdigest()[:_DIGEST_CHARACTERS]

    @cached_property
    def header(self) -> bytes:
        """All that precedes the weights. Raises `RepackError`."""
        try:
            entries = [*self.entries(), _entry(SOURCE_KEY, self.digest)]
        except OSError as error:
            raise RepackError(f"it cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise RepackError(f"its tokenizer cannot be repacked: {error}") from None
        data = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(entries)), *entries]
        offset = 0
        for tensor in self.tensors:
            data.append(_string(tensor.name.encode()))
            data.append(struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
            data.append(struct.pack("<IQ", tensor.type, offset))
            offset += aligned(tensor.bytes)
        joined = b"".join(data)
        return joined + bytes(-len(joined) % ALIGNMENT)

    @property
    def bytes_to_write(self) -> int:
        """The size of the new file."""
        return len(self.header) + sum(aligned(tensor.bytes) for tensor in self.tensors)

    def chunks(self) -> Iterator[bytes]:
        """Yield the new file, in pieces of some megabytes."""
        yield self.header
        for tensor in self.tensors:
            for begin in range(0, tensor.bytes, _CHUNK_BYTES):
                yield self.read(tensor.offset + begin, min(_CHUNK_BYTES, tensor.bytes - begin))
            yield bytes(-tensor.bytes % ALIGNMENT)


class _GgmlSource(_Source):
    """A file of chatglm.cpp."""

    def __init__(self, model: ModelFile, file: BinaryIO) -> None:
        super().__init__(model.path, model.file_bytes, model.tokenizer_offset + model.tokenizer_bytes, file)
        self._model = model
        try:
            self.tensors = list(self._read_table())
        except (KeyError, OverflowError, ValueError, struct.error):
            raise RepackError("it changed while it was read: start again when it is complete") from None

    def entries(self) -> list[bytes]:
        return [*_parameters(self._model), *_tokenizer(self._model)]

    def _read_table(self) -> Iterator[_Tensor]:
        """Yield the tensors in the order of the file, whose table `inspect` has checked."""
        position = self._prefix_bytes
        while position < self._file_bytes:
            (length,) = struct.unpack("<i", self.read(position, 4))
            if not 0 < length < _CHUNK_BYTES:
                raise ValueError
            name = self.read(position + 4, length).decode()
            position += 4 + length
            (dimensions,) = struct.unpack("<i", self.read(position, 4))
            *shape, type = struct.unpack(f"<{dimensions + 1}i", self.read(position + 4, 4 * dimensions + 4))
            position = (position + 8 + 4 * dimensions + 15) & ~15
            values, block = BLOCKS[type]
            size = math.prod(shape) // values * block
            # Some vectors are written as matrices of one row.
            while len(shape) > 1 and shape[0] == 1:
                del shape[0]
            yield _Tensor(_gguf_name(name), tuple(reversed(shape)), type, position, size)
            position += size


class _GgufSource(_Source):
    """A GGUF file of which only the tokenizer's flag for spaces is wrong."""

    def __init__(self, gguf: GgufFile, file: BinaryIO) -> None:
        first = min((tensor.offset for tensor in gguf.tensors.values()), default=0)
        super().__init__(gguf.path, gguf.file_bytes, first, file)
        self.tensors = [
            _Tensor(name, tensor.shape, tensor.type, tensor.offset, tensor.bytes)
            for name, tensor in gguf.tensors.items()
        ]

    def entries(self) -> list[bytes]:
        # What is written is aligned as usual.
        replaced = ("general.alignment", "tokenizer.ggml.add_space_prefix", SPACE_PREFIX_KEY, SOURCE_KEY)
        kept = [entry for key, entry in read_entries(self.path).items() if key not in replaced]
        return [*kept, _entry("tokenizer.ggml.add_space_prefix", False), _entry(SPACE_PREFIX_KEY, True)]


def _gguf_name(name: str) -> str:
    if (layer := _LAYER.fullmatch(name)) is not None:
        return f"blk.{layer[1]}.{_LAYER_TENSORS[layer[2]]}"
    return _TENSORS[name]


def _samples(size: int) -> Iterable[tuple[int, int]]:
    """Return offsets and lengths of the samples of ``size`` bytes."""
    length = min(size, _SAMPLE_BYTES)
    return (0, length), ((size - length) // 2, length)


# --- the header ---


def _parameters(model: ModelFile) -> Iterator[bytes]:
    """Yield what llama.cpp reads for the architecture chatglm."""
    yield _entry("general.architecture", "chatglm")
    yield _entry("general.name", _FAMILIES[model.model_type])
    yield _entry("general.quantization_version", _QUANTIZATION_VERSION)
    yield _entry("chatglm.context_length", model.max_length)
    yield _entry("chatglm.embedding_length", model.hidden_size)
    yield _entry("chatglm.feed_forward_length", model.intermediate_size)
    yield _entry("chatglm.block_count", model.layers)
    yield _entry("chatglm.attention.head_count", model.attention_heads)
    yield _entry("chatglm.attention.head_count_kv", model.key_value_heads)
    yield _entry("chatglm.attention.layer_norm_rms_epsilon", model.epsilon)
    # Half of each head is rotated.
    yield _entry("chatglm.rope.dimension_count", model.head_size // 2)
    yield _entry("chatglm.rope.freq_base", model.rope_theta)
    yield _entry(FAMILY_KEY, _FAMILIES[model.model_type])


def _tokenizer(model: ModelFile) -> Iterator[bytes]:
    """Yield the tokenizer. Raises ValueError when it cannot be read."""
    vocabulary = read_vocabulary(model)
    data = read_tokenizer(model)
    specials = SPECIALS_BEHIND[model.model_type]
    if model.model_type == CHATGLM4:
        tokens = read_ranks(data)
        texts = [letters_of_bytes(token) for token in tokens]
        kinds = [NORMAL] * len(tokens)
        yield _entry("tokenizer.ggml.model", "gpt2")
        # The pattern is that of "chatglm-bpe". But only with this one llama.cpp takes a word that is a token as it is,
        # as tiktoken does. A thousand tokens, such as " 学校", are made of no two others, so merges do not find them.
        yield _entry("tokenizer.ggml.pre", "llama-bpe")
        yield _array("tokenizer.ggml.merges", _STRING, map(_string, _merges(tokens)))
    else:
        pieces = read_pieces(data)
        # llama.cpp takes the text of a user-defined piece as the file spells it, and "▁" in it for no space.
        texts = [
            (piece.text.replace("▁", " ") if piece.kind == USER_DEFINED else piece.text).encode() for piece in pieces
        ]
        kinds = [piece.kind for piece in pieces]
        specials = tuple(GGUF_NAMES.get(name, name) for name in specials)
        scores = [piece.score for piece in pieces]
        # What follows the pieces is merged last, if a text has it at all.
        scores += [min(scores, default=0.0) - 1] * (model.vocabulary_size - len(pieces))
        yield _entry("tokenizer.ggml.model", "llama")
        yield _array("tokenizer.ggml.scores", _FLOAT32, (struct.pack("<f", score) for score in scores))
    texts += (name.encode() for name in specials)
    kinds += [CONTROL] * len(specials)
    for id in range(len(texts), model.vocabulary_size):
        texts.append(f"[PAD{id}]".encode())
        kinds.append(UNUSED)
    # llama.cpp refuses a vocabulary that has a text twice.
    if len(set(texts)) < len(texts):
        raise ValueError("it has two tokens of one text")
    yield _array("tokenizer.ggml.tokens", _STRING, map(_string, texts))
    yield _array("tokenizer.ggml.token_type", _INT32, (struct.pack("<i", kind) for kind in kinds))
    yield _entry("tokenizer.ggml.add_bos_token", False)
    # We tokenize ourselves. With true llama.cpp strips the space of the pieces that it shows to llguidance, which then
    # takes the piece of a space for a special token, and drops grammars in the middle of an answer.
    yield _entry("tokenizer.ggml.add_space_prefix", False)
    yield _entry(SPACE_PREFIX_KEY, vocabulary.begins_with_space)
    end = model.end_id if model.end_id >= 0 else vocabulary.specials.get("<|endoftext|>", -1)
    if end >= 0:
        yield _entry("tokenizer.ggml.eos_token_id", end)
    for key, name in _MORE_ENDS.items():
        if name in vocabulary.specials:
            yield _entry(f"tokenizer.ggml.{key}_token_id", vocabulary.specials[name])


def _merges(tokens: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the merge that makes each token, by rank: its two parts as GPT-2's tokenizer writes them."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for rank, token in enumerate(tokens):
        parts = _merge(token, ranks, rank)
        if len(parts) == 2:
            yield b" ".join(map(letters_of_bytes, parts))


def _merge(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """Return the parts of ``token`` after all merges of a rank less than ``below``."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        lowest, at = below, -1
        for index in range(len(parts) - 1):
            rank = ranks.get(parts[index] + parts[index + 1], below)
            if rank < lowest:
                lowest, at = rank, index
        if at < 0:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _entry(key: str, value: str | float) -> bytes:
    match value:
        case bool():
            kind, data = _BOOL, struct.pack("<?", value)
        case int():
            kind, data = _UINT32, struct.pack("<I", value)
        case float():
            kind, data = _FLOAT32, struct.pack("<f", value)
        case _:
            kind, data = _STRING, _string(value.encode())
    return _string(key.encode()) + struct.pack("<I", kind) + data


def _array(key: str, kind: int, values: Iterable[bytes]) -> bytes:
    items = list(values)
    return _string(key.encode()) + struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)


# --- the result ---


def _find(source: _Source, folders: Iterable[Path]) -> Path | None:
    """Return a file in ``folders`` that ``source`` was repacked to, or None."""
    for folder in folders:
        for path in sorted(folder.glob(f"*-{source.digest}.gguf")):
            if _is_copy(path, source):
                return path
    return None


def _is_copy(path: Path, source: _Source) -> bool:
    """Return whether ``path`` is sound and has the tensors of ``source``; their data are compared by samples."""
    try:
        copy = inspect_gguf(path)
        with path.open("rb", buffering=0) as file:
            return (
                copy.metadata.get(SOURCE_KEY) == source.digest
                and len(copy.tensors) == len(source.tensors)
                and all(_has_tensor(copy, file, source, tensor) for tensor in source.tensors)
            )
    except (GgufError, OSError):
        return False


def _has_tensor(copy: GgufFile, file: BinaryIO, source: _Source, tensor: _Tensor) -> bool:
    written = copy.tensors.get(tensor.name)
    return (
        written is not None
        and (written.shape, written.type) == (tensor.shape, tensor.type)
        and all(
            os.pread(file.fileno(), count, written.offset + offset) == source.read(tensor.offset + offset, count)
            for offset, count in _samples(tensor.bytes)
        )
    )


def _repack(source: _Source, folder: Path) -> Path:
    """Write ``source`` into ``folder``, unless another process does so meanwhile; return the path.

    Raises `_NotWritable` and `RepackError`.
    """
    partial = folder / f"{source.digest}{_INCOMPLETE}"
    stem = os.fsdecode(os.fsencode(source.path.stem)[:_LONGEST_STEM])
    path = folder / f"{stem}-{source.digest}.gguf"
    with _telling_of_writing(folder), _locked(partial) as file:
        try:
            # Whoever had the lock before may have written it.
            found = _find(source, [folder])
            if found is None:
                _remove_leftovers(folder)
                file.truncate(0)
                _write(source, file, folder)
                if not _is_copy(partial, source):
                    raise RepackError(f"what was written to {folder} reads back as something else: check that disk")
                partial.rename(path)
                _sync(folder)
            else:
                partial.unlink()
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return found or path


@contextmanager
def _telling_of_writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RepackError(f"there is no space left for its repacked copy in {folder}: make room there") from None
        raise RepackError(f"its repacked copy cannot be written to {folder} ({error.strerror})") from None


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` to append to it, with a lock that no other process has. Raises `_NotWritable`."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                raise _NotWritable from None
            raise
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"Another process writes {path}: waiting for it.", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    path.unlink()
                    raise _NotWritable from None
                raise
            # Otherwise the process that had the lock has renamed or removed the file.
            if _is_at(file, path):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path) -> None:
    """Remove what runs that were killed have left, of this and of other models. Their locks went with them."""
    for path in folder.glob(f"*{_INCOMPLETE}"):
        if _LEFTOVER.fullmatch(path.name):
            with suppress(OSError), path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _write(source: _Source, file: BinaryIO, folder: Path) -> None:
    """Write all to ``file``, down to the disk. Raises `RepackError` and OSError."""
    size = source.bytes_to_write
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if size > free:
        raise RepackError(f"its repacked copy needs {size:,} bytes in {folder}, where {free:,} are free: make room")
    with _Progress(source.path.name, folder, size) as progress:
        for chunk in source.chunks():
            file.write(chunk)
            progress.advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the new name last. Some file systems cannot do that for a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Progress:
    """Tells on standard error what is written to ``folder``, and on a terminal how far it is, of ``size`` bytes."""

    def __init__(self, name: str, folder: Path, size: int) -> None:
        self._name = name
        self._folder = folder
        self._size = size
        self._done = 0
        self._shown_at = 0.0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        where = f"in {self._folder.resolve()}"
        print(
            f"Repacking {self._name} for llama.cpp, {self._size / 1e6:,.0f} MB, {where}.", file=sys.stderr, flush=True
        )
        return self

    def advance(self, count: int) -> None:
        """Take note of ``count`` more bytes."""
        self._done += count
        if self._terminal and time.monotonic() - self._shown_at > _PROGRESS_SECONDS:
            self._shown_at = time.monotonic()
            self._show()

    def _show(self) -> None:
        bar = "#" * (_BAR_WIDTH * self._done // self._size)
        share = f"{100 * self._done // self._size:3} % of {self._size / 1e6:,.0f} MB"
        line = f"[{bar:<{_BAR_WIDTH}}] {share}"
        # A line that is wrapped would not be overwritten.
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            self._show()
            print(file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
