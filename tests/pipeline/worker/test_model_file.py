"""A file that is no model, or a damaged one, is refused in one line, before chatglm_cpp crashes on it."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from glm_api.pipeline.cpus import child_environment
from glm_api.pipeline.worker.model_file import ModelFileError, inspect
from glm_api.pipeline.worker.vocabulary import read_vocabulary
from tests.pipeline.conftest import MakePipeline, await_state
from tests.support.model_files.tokenizers import tiktoken_ranks, tiktoken_tokens
from tests.support.model_files.writer import FAMILIES, Family
from tests.support.processes import until


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"GGUF\x03\0\0\0" + bytes(40), "GGUF"),
        (b'\x10\x02\0\0\0\0\0\0{"a":1}', "safetensors"),
        (b"PK\x03\x04" + bytes(40), "PyTorch"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"ggml", "ends too early"),
        (b"ggml\x09\0\0\0\x02\0\0\0" + bytes(60), "unknown type 9"),
        (b"ggml\x03\0\0\0\x07\0\0\0" + bytes(60), "layout version 7"),
        (b"ggml\x03\0\0\0\x02\0\0\0" + bytes(60), "header makes no sense"),
        (b"something else altogether", "is not a model file"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=said) as refused:
        inspect(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("model.bin", b"", "Convert the model with"),
        ("model.gguf", b"", "Download it again."),
        ("model.gguf", b"<html>", "Download it again."),
        ("model.bin", b"version https://git-lfs.github.com/spec/v1\n", "Run `git lfs pull` in the repository"),
        ("model.gguf", b"version https://git-lfs.github.com/spec/v1\n", "Run `git lfs pull` in the repository"),
    ],
)
def test_the_advice_fits_the_file(tmp_path: Path, name: str, content: bytes, advice: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert f". {advice}" in refusal(path)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        inspect(tmp_path / "absent.bin")
    with pytest.raises(ModelFileError, match="directory"):
        inspect(tmp_path)


def refusal(path: Path) -> str:
    """Return the one line with which `inspect` refuses ``path``."""
    with pytest.raises(ModelFileError) as refused:
        inspect(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_truncated_model_is_refused_wherever_it_was_cut(
    family: Family, model_file: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = model_file(family).read_bytes()
    inspect(model_file(family))
    path = tmp_path / "cut.bin"
    for keep in (10, 40, 70, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ModelFileError):
            inspect(path)


# The header's records: names of the fields and their formats, in order.
RECORDS = {
    1: "type:i vocabulary:i hidden:i heads:i layers:i intermediate:i max_length:i bos:i eos:i pad:i sep:i kv_heads:i",
    2: "type:i vocabulary:i hidden:i heads:i kv_heads:i layers:i intermediate:i epsilon:f virtual:i theta:f "
    "max_length:i eos:i pad:i",
}
VISION = (
    "v.type:i v.hidden:i v.image:i v.channels:i v.intermediate:i v.epsilon:f v.heads:i v.layers:i v.positions:i "
    "v.patch:i v.scale:f"
)
HUGE = (1 << 31) - 1
SIZES = (0, -1, 1, 3, 5, 6, 1023, 1 << 24, HUGE, -HUGE - 1)
FRACTIONS = (0.0, -0.0, -1e-5, 1e38, math.nan, math.inf, -math.inf)
# Values that a field cannot have. None of them is a number that a tiny model could have.
WRONG = {
    "type": (-1, 4, 5, 9, 10, 16, 1 << 20, HUGE),
    "vocabulary": SIZES,
    "hidden": SIZES,
    "heads": (0, -1, 3, 5, 64, 1023, HUGE),
    "kv_heads": (0, -1, 3, 5, 8, HUGE),
    "layers": (0, -1, 1, 3, 255, 1023, HUGE),
    "intermediate": SIZES,
    "epsilon": FRACTIONS,
    "virtual": (-1, 1, 128, HUGE, -HUGE - 1),
    "theta": (0.0, -1.0, 1e-38, math.nan, math.inf, -math.inf),
    "max_length": (0, -1, HUGE, -HUGE - 1),
    "eos": (-2, 1 << 20, HUGE, -HUGE - 1),
    "v.type": (-1, 4, 5, 9, HUGE),
    "v.hidden": SIZES,
    "v.image": SIZES,
    "v.channels": (0, -1, 1, 4, HUGE),
    "v.intermediate": SIZES,
    "v.epsilon": FRACTIONS,
    "v.heads": (0, -1, 3, 5, 1023, HUGE),
    "v.layers": (0, -1, 1, 3, 255, HUGE),
    "v.positions": SIZES,
    "v.patch": (0, -1, 1, 2, 3, 8, HUGE),
    "v.scale": (0.0, -1.0, math.nan, math.inf),
}


def header(family: Family, version: int) -> dict[str, tuple[int, str]]:
    """Return the offset and the format of each field of the header."""
    fields = RECORDS[version].split()[: 11 if (family, version) == ("chatglm", 1) else None]
    fields += VISION.split() if family == "glm4v" else []
    return {name: (12 + 4 * at, format) for at, (name, format) in enumerate(field.split(":") for field in fields)}


LAYOUTS: list[tuple[Family, int]] = [(family, 2) for family in FAMILIES]
LAYOUTS += [("chatglm", 1), ("chatglm2", 1), ("chatglm3", 1)]
DAMAGES = [(family, version, name) for family, version in LAYOUTS for name in header(family, version) if name in WRONG]


def damaged_header(whole: bytes, family: Family, version: int, name: str, value: float) -> bytes:
    offset, format = header(family, version)[name]
    return whole[:offset] + struct.pack(f"<{format}", value) + whole[offset + 4 :]


@pytest.mark.parametrize(("family", "version", "name"), DAMAGES)
def test_a_damaged_header_is_refused(
    family: Family, version: int, name: str, model_file: Callable[..., Path], tmp_path: Path
) -> None:
    whole = model_file(family, version=version).read_bytes()
    path = tmp_path / "model.bin"
    for value in WRONG[name]:
        path.write_bytes(damaged_header(whole, family, version, name, value))
        assert path.name in refusal(path), value


@dataclass(frozen=True)
class Record:
    """A tensor in a file: where its record begins, where its dimensions are told, and where its data begin and end."""

    name: str
    start: int
    dimensions: int
    shape: tuple[int, ...]
    data: int
    end: int


def tensors(path: Path) -> Iterator[Record]:
    """The tensors of a file that the writer wrote, whose types are f32 and f16."""
    model = inspect(path)
    whole = path.read_bytes()
    position = model.tokenizer_offset + model.tokenizer_bytes
    while position < len(whole):
        (length,) = struct.unpack_from("<i", whole, position)
        dimensions = position + 4 + length
        (count,) = struct.unpack_from("<i", whole, dimensions)
        *shape, kind = struct.unpack_from(f"<{count + 1}i", whole, dimensions + 4)
        data = (dimensions + 8 + 4 * count + 15) & ~15
        end = data + math.prod(shape) * (4 if kind == 0 else 2)
        yield Record(whole[position + 4 : dimensions].decode(), position, dimensions, tuple(shape), data, end)
        position = end


def tensor_damages(whole: bytes, tensor: Record) -> Iterator[tuple[str, int, bytes]]:
    """Return damages of a tensor's record: a description, and what to write where."""
    length = tensor.dimensions - tensor.start - 4
    for value in (0, -1, length - 1, length + 1, 1 << 20, HUGE):
        yield f"a name of {value}", tensor.start, struct.pack("<i", value)
    yield "another name", tensor.start + 4, bytes([whole[tensor.start + 4] ^ 1])
    for value in (0, -1, 5, HUGE):
        yield f"{value} dimensions", tensor.dimensions, struct.pack("<i", value)
    for at, extent in enumerate(tensor.shape):
        for value in (0, -1, extent + 1, 2 * extent, HUGE):
            yield f"dimension {at} is {value}", tensor.dimensions + 4 + 4 * at, struct.pack("<i", value)
    at = tensor.dimensions + 4 + 4 * len(tensor.shape)
    (kind,) = struct.unpack_from("<i", whole, at)
    for value in {-1, 0, 1, 2, 4, 5, 8, 9, 16, HUGE} - {kind}:
        yield f"type {value}", at, struct.pack("<i", value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_tensor_is_refused(family: Family, model_file: Callable[..., Path], tmp_path: Path) -> None:
    whole = model_file(family).read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(whole)
    with path.open("r+b", buffering=0) as file:
        for tensor in tensors(model_file(family)):
            for _, offset, written in tensor_damages(whole, tensor):
                file.seek(offset)
                file.write(written)
                refusal(path)
                file.seek(offset)
                file.write(whole[offset : offset + len(written)])
    inspect(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tensor_that_is_missing_or_there_twice_is_refused(
    family: Family, model_file: Callable[..., Path], tmp_path: Path
) -> None:
    whole = model_file(family).read_bytes()
    path = tmp_path / "model.bin"
    records = list(tensors(model_file(family)))
    for tensor in records[1:]:
        before, record, behind = whole[: tensor.start], whole[tensor.start : tensor.end], whole[tensor.end :]
        # Data lie at multiples of 16 bytes from the file's beginning; that still holds, so only the number is wrong.
        assert len(record) % 16 == 0
        for changed in (before + behind, before + record + record + behind):
            path.write_bytes(changed)
            refusal(path)


@pytest.mark.parametrize(
    ("family", "version", "name", "value"),
    [
        ("chatglm3", 2, "type", 5),
        ("chatglm3", 1, "type", -1),
        ("glm4", 2, "epsilon", 0.0),
        ("chatglm2", 2, "virtual", -HUGE - 1),
        ("chatglm", 2, "layers", 255),
        ("glm4v", 2, "v.patch", 0),
    ],
)
def test_a_damaged_model_fails_to_load_in_one_line(
    family: Family,
    version: int,
    name: str,
    value: float,
    model_file: Callable[..., Path],
    make_pipeline: MakePipeline,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(damaged_header(model_file(family, version=version).read_bytes(), family, version, name, value))
    pipeline = make_pipeline(path, ready=False)
    await_state(pipeline, "failed")
    assert pipeline.health().message == refusal(path)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (tiktoken_ranks([*tiktoken_tokens(), b"one", b"more"]), "the model"),
        (tiktoken_ranks(tiktoken_tokens()).replace(b" 0\n", b" -1\n", 1), "count from 0"),
        (tiktoken_ranks(tiktoken_tokens()).replace(b" 7\n", b" 2147483647\n", 1), "count from 0"),
        (tiktoken_ranks(tiktoken_tokens()[1:]), "bytes"),
        (tiktoken_ranks(tiktoken_tokens()).replace(b"=", b"*", 1), "base64"),
        (b"\n", "bytes"),
        (b"\n\n", "bytes"),
    ],
)
def test_a_tokenizer_whose_ids_would_crash_the_model_is_refused(
    tokens: bytes, said: str, model_file: Callable[..., Path]
) -> None:
    path = model_file("glm4", tokenizer=tokens)
    with pytest.raises(ValueError, match=said):
        read_vocabulary(inspect(path))


def test_a_tokenizer_with_more_pieces_than_the_model_has_ids_is_refused(model_file: Callable[..., Path]) -> None:
    whole = model_file("chatglm2", extra_rows=-1)
    with pytest.raises(ValueError, match="the tokenizer has"):
        read_vocabulary(inspect(whole))


def test_a_process_that_dies_of_its_file_is_logged_once_and_restarted_ever_more_slowly(
    make_pipeline: MakePipeline, model_file: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # No file is known that passes the check and crashes chatglm_cpp, so chatglm_cpp is replaced by a crash.
    (tmp_path / "chatglm_cpp.py").write_text("import os\n\nos.abort()\n")
    begun = time.monotonic()
    pipeline = make_pipeline(
        model_file("chatglm3"), ready=False, environment={**child_environment(), "PYTHONPATH": str(tmp_path)}
    )
    until(lambda: pipeline.restarts["pipeline", "load_failed"] == 3)
    assert time.monotonic() - begun > 0.5 + 1.0
    health = pipeline.health()
    assert health.state == "failed"
    assert "(signal SIGABRT). The file may be damaged" in health.message
    assert [record.getMessage() for record in caplog.records].count(health.message) == 1
