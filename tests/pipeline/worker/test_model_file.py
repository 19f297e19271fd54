"""What the operator is told about a file that is no model, before chatglm_cpp crashes on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glm_api.pipeline.worker.model_file import ModelFileError, inspect

FAMILIES = ["chatglm", "chatglm2", "chatglm3", "glm4"]


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
        (b"something else altogether", "no GGML model"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=said) as refused:
        inspect(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        inspect(tmp_path / "absent.bin")
    with pytest.raises(ModelFileError, match="directory"):
        inspect(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_truncated_model_is_refused_wherever_it_was_cut(
    family: str, model_file: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = model_file(family).read_bytes()
    inspect(model_file(family))
    path = tmp_path / "cut.bin"
    for keep in (10, 40, 70, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ModelFileError):
            inspect(path)
