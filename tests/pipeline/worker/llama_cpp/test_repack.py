"""Repacking writes a sound GGUF once, finds it again, and leaves nothing behind when it fails."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glm_api.pipeline.worker.gguf_file import inspect_gguf
from glm_api.pipeline.worker.llama_cpp import repack
from glm_api.pipeline.worker.llama_cpp.repack import RepackError, find_or_repack
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.vocabulary import read_gguf_vocabulary, read_vocabulary
from tests.support.gguf import models
from tests.support.model_files.fixtures import DEMO_MODEL
from tests.support.model_files.tokenizers import (
    sentencepiece_model,
    sentencepiece_pieces,
    tiktoken_ranks,
    tiktoken_tokens,
    without_dummy_prefix,
)
from tests.support.model_files.writer import Family
from tests.support.processes import PATIENCE, ROOT, until

ModelFileFactory = Callable[..., Path]
PROGRAM = [sys.executable, "-m", "glm_api.pipeline.worker.llama_cpp.repack"]
REPACKED: list[Family] = ["chatglm2", "chatglm3", "glm4"]
WEIGHT_TYPES = [0, 1, 2, 3, 6, 7, 8]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the tests, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glm-api"


@pytest.fixture
def model(model_file: ModelFileFactory, tmp_path: Path) -> Path:
    """A model in a folder of its own."""
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(model_file("chatglm3"), tmp_path / "models" / "tiny.q8_0.bin"))


def refusal(path: Path) -> str:
    with pytest.raises(RepackError) as refused:
        find_or_repack(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weights(path: Path) -> dict[str, bytes]:
    file = inspect_gguf(path)
    content = path.read_bytes()
    return {name: content[tensor.offset : tensor.offset + tensor.bytes] for name, tensor in file.tensors.items()}


# --- what is written ---


@pytest.mark.parametrize("family", REPACKED)
@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
def test_the_weights_are_the_same_bytes(
    family: Family, weight_type: int, model_file: ModelFileFactory, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model_file(family, weight_type=weight_type, extra_rows=3), tmp_path))
    copied = weights(find_or_repack(path))
    original = path.read_bytes()
    assert all(data in original for data in copied.values())
    # Names, shapes and gaps are all that is not copied.
    model = inspect(path)
    table = len(original) - model.tokenizer_offset - model.tokenizer_bytes
    assert 0 < table - sum(map(len, copied.values())) < 100 * len(copied)


@pytest.mark.parametrize(
    ("family", "version"), [("chatglm2", 1), ("chatglm2", 2), ("chatglm3", 1), ("chatglm3", 2), ("glm4", 2)]
)
def test_the_header_says_what_the_original_says(
    family: Family, version: int, model_file: ModelFileFactory, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model_file(family, version=version, extra_rows=3, max_length=300), tmp_path))
    model, file = inspect(path), inspect_gguf(find_or_repack(path))
    assert file.architecture == "chatglm"
    assert file.family == {"chatglm2": "ChatGLM2", "chatglm3": "ChatGLM3", "glm4": "ChatGLM4"}[family]
    assert (file.context_length, file.layers) == (300, model.layers)
    assert file.vocabulary_size == model.vocabulary_size
    assert file.slot_bytes(100) == model.slot_bytes(100)
    assert file.metadata["chatglm.rope.freq_base"] == model.rope_theta
    assert file.metadata["chatglm.attention.layer_norm_rms_epsilon"] == pytest.approx(model.epsilon)


@pytest.mark.parametrize("family", REPACKED)
def test_an_answer_ends_at_the_ids_at_which_it_ended(
    family: Family, open_model: Callable[..., Any], tmp_path: Path
) -> None:
    opened = open_model(family)
    path = Path(shutil.copy(opened.path, tmp_path))
    assert inspect_gguf(find_or_repack(path)).end_ids == opened.tokenizer.end_ids


TOKENIZERS: list[tuple[Family, bytes | None]] = [
    ("chatglm2", None),
    ("chatglm2", without_dummy_prefix(sentencepiece_model(sentencepiece_pieces()))),
    ("chatglm3", None),
    ("glm4", None),
    ("glm4", tiktoken_ranks([*tiktoken_tokens()[:-1], "长的词".encode()])),
]


@pytest.mark.parametrize(("family", "tokenizer"), TOKENIZERS)
def test_the_vocabulary_is_the_same(
    family: Family, tokenizer: bytes | None, model_file: ModelFileFactory, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model_file(family, tokenizer=tokenizer, extra_rows=3), tmp_path))
    original, copied = read_vocabulary(inspect(path)), read_gguf_vocabulary(inspect_gguf(find_or_repack(path)))
    assert copied.pieces == original.pieces
    assert original.specials.items() <= copied.specials.items()
    assert copied.begins_with_space == original.begins_with_space
    assert copied.longest_piece == original.longest_piece
    assert (copied.covers_all, copied.normalizes) == (True, False)


def test_the_demo_model_is_repacked(tmp_path: Path) -> None:
    path = Path(shutil.copy(DEMO_MODEL, tmp_path))
    file = inspect_gguf(find_or_repack(path))
    assert file.family == "ChatGLM3"
    assert read_gguf_vocabulary(file).pieces == read_vocabulary(inspect(path)).pieces


def test_llama_cpp_is_told_of_no_space_in_front(model: Path) -> None:
    # With one, it drops grammars in the middle of an answer.
    assert not inspect_gguf(find_or_repack(model)).add_space_prefix


# --- what is refused ---


@pytest.mark.parametrize(
    ("family", "fields", "said"),
    [
        ("chatglm", {}, "ChatGLM-6B"),
        ("glm4v", {}, "GLM-4V"),
        ("chatglm3", {"virtual_tokens": 4}, "P-Tuning"),
        ("glm4", {"tokenizer": tiktoken_ranks(tiktoken_tokens()[1:])}, "its tokenizer cannot be repacked"),
        ("chatglm2", {"tokenizer": b"\x0a\xff"}, "its tokenizer cannot be repacked"),
        (
            "chatglm3",
            {"tokenizer": sentencepiece_model([*sentencepiece_pieces()[:-1], ("<|user|>", 1)])},
            "two tokens of one text",
        ),
    ],
)
def test_a_model_that_cannot_be_repacked_is_refused(
    family: Family, fields: dict[str, Any], said: str, model_file: ModelFileFactory, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model_file(family, **fields), tmp_path))
    assert said in refusal(path)
    assert names(tmp_path) == [path.name]


def test_a_file_that_is_damaged_or_absent_is_refused(model: Path) -> None:
    assert "No such file" in refusal(model.with_name("absent.bin"))
    os.truncate(model, model.stat().st_size - 1)
    assert "ends too early" in refusal(model)


def test_a_gguf_file_is_what_it_is(tmp_path: Path) -> None:
    for kind in (models.GLM_4, models.GLM_4_5, models.CHATGLM3):
        path = models.write_model(tmp_path / f"{kind.name}.gguf", kind)
        assert find_or_repack(path) == path
    # Whoever opens it says what is wrong.
    path.write_bytes(b"GGUF" + bytes(100))
    assert find_or_repack(path) == path


def test_a_gguf_file_whose_grammars_llama_cpp_would_drop_is_repacked(tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "prefixed.gguf", models.CHATGLM3, add_space_prefix=True)
    found = find_or_repack(path)
    assert found != path
    assert find_or_repack(path) == found
    before, after = inspect_gguf(path), inspect_gguf(found)
    assert (before.strips_spaces, after.strips_spaces) == (True, False)
    assert read_gguf_vocabulary(after) == read_gguf_vocabulary(before)
    assert after.family == before.family
    assert list(after.tensors) == list(before.tensors)
    for name, tensor in after.tensors.items():
        old = before.tensors[name]
        assert (tensor.shape, tensor.type) == (old.shape, old.type)
        weights = found.read_bytes()[tensor.offset :][: tensor.bytes]
        assert weights == path.read_bytes()[old.offset :][: old.bytes]


def test_a_file_that_becomes_another_meanwhile_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspect(model)
    content = model.read_bytes()
    table = whole.tokenizer_offset + whole.tokenizer_bytes

    def inspect_and_change(path: Path) -> object:
        return whole

    monkeypatch.setattr(repack, "inspect", inspect_and_change)
    for other in (b"\xff" * 8, b"\x05\0\0\0other", bytes(8)):
        model.write_bytes(content[:table] + other + content[table + len(other) :])
        assert "while it was read" in refusal(model)
    assert names(model.parent) == [model.name]


def test_a_file_that_becomes_shorter_meanwhile_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspect(model)

    def inspect_and_cut(path: Path) -> object:
        os.truncate(path, whole.file_bytes - 5000)
        return whole

    monkeypatch.setattr(repack, "inspect", inspect_and_cut)
    assert "became shorter" in refusal(model)
    assert names(model.parent) == [model.name]


# --- finding it again ---


def test_it_lies_beside_the_model_and_bears_its_name(model: Path) -> None:
    path = find_or_repack(model)
    assert path.parent == model.parent
    assert path.name.startswith("tiny.q8_0-")
    assert path.suffix == ".gguf"
    assert names(model.parent) == sorted([model.name, path.name])


def test_a_relative_path_will_do(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert find_or_repack(Path(model.name)) == find_or_repack(model)


@pytest.fixture
def no_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second writing fail."""

    def fail(*args: object) -> None:
        raise AssertionError("it was written again")

    monkeypatch.setattr(repack, "_write", fail)


def test_it_is_found_when_the_model_was_renamed(model: Path, request: pytest.FixtureRequest) -> None:
    path = find_or_repack(model)
    request.getfixturevalue("no_writing")
    assert find_or_repack(model.rename(model.with_name("other.bin"))) == path


def test_it_is_found_when_both_were_moved(model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = find_or_repack(model)
    request.getfixturevalue("no_writing")
    moved = model.parent.rename(tmp_path / "elsewhere")
    assert find_or_repack(moved / model.name) == moved / path.name


def test_it_is_found_in_the_cache_wherever_the_model_is(
    model: Path, cache: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cache.mkdir(parents=True)
    path = find_or_repack(model)
    kept = path.rename(cache / path.name)
    request.getfixturevalue("no_writing")
    (tmp_path / "far").mkdir()
    assert find_or_repack(model.rename(tmp_path / "far" / "model.bin")) == kept


def test_another_model_of_the_same_shape_is_written_too(model: Path, model_file: ModelFileFactory) -> None:
    path = find_or_repack(model)
    shutil.copy(model_file("chatglm3", seed=1), model)
    assert find_or_repack(model) != path


def test_every_tensor_and_the_tokenizer_count(model: Path) -> None:
    whole = model.read_bytes()
    path = find_or_repack(model)
    file = inspect_gguf(path)
    found = {path}
    for tensor in file.tensors.values():
        data = path.read_bytes()[tensor.offset : tensor.offset + tensor.bytes]
        # Those of the norms are all alike.
        at = whole.rindex(data) if whole.count(data) > 1 else whole.index(data)
        model.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found.add(find_or_repack(model))
    assert len(found) > len(file.tensors) - 2 * file.layers


def test_a_copy_that_is_damaged_is_written_again(model: Path) -> None:
    path = find_or_repack(model)
    whole = path.read_bytes()
    middle = inspect_gguf(path).tensors["output.weight"]
    at = middle.offset + middle.bytes // 2
    for damaged in (whole[:-100], b"", whole[:100] + b"\xff" * 8 + whole[108:], whole[:at] + b"????" + whole[at + 4 :]):
        path.write_bytes(damaged)
        assert find_or_repack(model) == path
        assert path.read_bytes() == whole


def test_a_copy_of_another_model_under_its_name_is_not_taken(model: Path, model_file: ModelFileFactory) -> None:
    path = find_or_repack(model)
    whole = path.read_bytes()
    other = find_or_repack(Path(shutil.copy(model_file("chatglm3", seed=2), model.with_name("other.bin"))))
    other.rename(path)
    assert find_or_repack(model).read_bytes() == whole


# --- where it is written ---


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """``read_only(folder)`` lets nothing be written there. The modes of folders would not stop root."""
    folders: list[Path] = []
    opened = Path.open

    def open_unless_read_only(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.parent in folders and mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_unless_read_only)
    return folders.append


def test_it_lies_in_the_cache_when_the_folder_cannot_be_written(
    model: Path, cache: Path, read_only: Callable[[Path], None]
) -> None:
    read_only(model.parent)
    path = find_or_repack(model)
    assert path.parent == cache
    assert find_or_repack(model) == path
    assert names(model.parent) == [model.name]


def test_it_lies_in_the_cache_when_the_folder_knows_no_locks(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def refuse(file: Any, operation: int) -> None:
        if Path(file.name).parent == model.parent:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert find_or_repack(model).parent == cache
    assert names(model.parent) == [model.name]


def test_the_folders_are_named_when_none_can_be_written(
    model: Path, cache: Path, read_only: Callable[[Path], None]
) -> None:
    read_only(model.parent)
    read_only(cache)
    message = refusal(model)
    assert str(model.parent) in message
    assert str(cache) in message


@pytest.mark.parametrize("value", ["", "relative"])
def test_the_cache_is_in_the_home_directory_by_default(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert repack.cache_folders() == [tmp_path / ".cache" / "glm-api"]


def test_a_disk_that_is_too_small_is_found_before_writing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = find_or_repack(model).stat().st_size
    for path in model.parent.glob("*.gguf"):
        path.unlink()
    real = os.statvfs(model.parent)

    def smaller(path: Path) -> os.statvfs_result:
        fields = list(real)
        # f_frsize and f_bavail
        fields[1], fields[4] = 1, size - 1
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", smaller)
    message = refusal(model)
    assert f"{size:,} bytes in {model.parent}, where {size - 1:,} are free" in message
    assert names(model.parent) == [model.name]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "no space left"), (errno.EIO, "error")]
)
def test_a_disk_that_fails_while_it_is_written_is_told_of(
    number: int, said: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = repack._Source.chunks

    def fail(source: repack._Source) -> Iterator[bytes]:
        yield from itertools.islice(chunks(source), 3)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(repack._Source, "chunks", fail)
    message = refusal(model)
    assert said in message
    assert str(model.parent) in message
    assert names(model.parent) == [model.name]


def test_what_reads_back_as_something_else_is_not_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = repack._Source.chunks

    def damage(source: repack._Source) -> Iterator[bytes]:
        header, *data = chunks(source)
        yield header
        yield from (bytes(len(chunk)) for chunk in data)

    monkeypatch.setattr(repack._Source, "chunks", damage)
    assert "reads back as something else" in refusal(model)
    assert names(model.parent) == [model.name]


def test_nothing_has_the_final_name_before_it_is_complete(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = repack._Source.chunks
    seen: list[list[str]] = []

    def watch(source: repack._Source) -> Iterator[bytes]:
        for chunk in chunks(source):
            seen.append([path.suffix for path in model.parent.iterdir()])
            yield chunk

    monkeypatch.setattr(repack._Source, "chunks", watch)
    find_or_repack(model)
    assert seen
    assert all(sorted(suffixes) == [".bin", ".incomplete"] for suffixes in seen)


# --- several at once ---


def partial_of(model: Path) -> Path:
    with model.open("rb", buffering=0) as file:
        return model.with_name(f"{repack._GgmlSource(inspect(model), file).digest}.gguf.incomplete")


def test_what_a_killed_run_left_is_removed(model: Path) -> None:
    partial = partial_of(model)
    partial.write_bytes(bytes(1 << 20))
    foreign = model.with_name("0123456789abcdef.gguf.incomplete")
    foreign.write_bytes(b"of another model")
    kept = model.with_name("mine.gguf.incomplete")
    kept.write_bytes(b"not ours")
    path = find_or_repack(model)
    assert names(model.parent) == sorted([model.name, path.name, kept.name])


def test_what_another_run_writes_at_the_time_is_left_alone(model: Path) -> None:
    busy = model.with_name("0123456789abcdef.gguf.incomplete")
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        find_or_repack(model)
        assert busy.exists()


class Program:
    """The program, while another process has the lock."""

    def __init__(self, model: Path) -> None:
        self._partial = partial_of(model)
        self._lock = self._partial.open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.process = subprocess.Popen(
            [*PROGRAM, str(model)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        assert "waiting" in self.process.stderr.readline()

    def let_go(self) -> None:
        self._partial.unlink()
        self._lock.close()

    def result(self) -> Any:
        return json.loads(self.process.communicate(timeout=PATIENCE)[0])


def test_a_second_run_waits_and_takes_what_the_first_has_written(model: Path) -> None:
    program = Program(model)
    # What the first one would do: it has the lock, and renames the file when it is complete.
    program._partial.unlink()
    path = find_or_repack(model)
    before = path.stat()
    program._lock.close()
    assert program.result() == {"path": str(path)}
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(model.parent) == sorted([model.name, path.name])


def test_a_second_run_writes_when_the_first_has_failed(model: Path) -> None:
    program = Program(model)
    program.let_go()
    assert Path(program.result()["path"]).exists()
    assert len(names(model.parent)) == 2


def test_runs_that_start_together_write_once(model: Path) -> None:
    programs = [
        subprocess.Popen([*PROGRAM, str(model)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    results = {program.communicate(timeout=PATIENCE)[0] for program in programs}
    assert len(results) == 1
    assert len(names(model.parent)) == 2


# --- the program ---


def test_the_program_prints_the_path_and_tells_what_it_does(model: Path) -> None:
    run = subprocess.run([*PROGRAM, str(model)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {"path": str(find_or_repack(model))}
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("Repacking tiny.q8_0.bin for llama.cpp")
    assert run.stderr.endswith(f" MB, in {model.parent.resolve()}.\n")
    again = subprocess.run([*PROGRAM, str(model)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (again.stdout, again.stderr) == (run.stdout, "")


def test_the_program_prints_an_error_in_one_line(model: Path) -> None:
    model.write_bytes(b"")
    run = subprocess.run([*PROGRAM, str(model)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["error"].startswith("tiny.q8_0.bin is empty")
    assert run.stderr == ""


def test_a_terminal_gets_a_bar(model: Path) -> None:
    screen, terminal = os.openpty()
    run = subprocess.Popen([*PROGRAM, str(model)], cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal)
    run.communicate(timeout=PATIENCE)
    os.close(terminal)
    shown = os.read(screen, 10_000).decode()
    os.close(screen)
    assert "100 %" in shown
    assert shown.endswith("\r\n")


def test_a_signal_ends_the_program_and_leaves_nothing(model: Path) -> None:
    program = Program(model)
    program.process.terminate()
    assert program.process.communicate(timeout=PATIENCE)[0] == ""
    assert program.process.returncode == 1
    program.let_go()
    assert names(model.parent) == [model.name]


def test_a_signal_while_it_writes_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(source: repack._Source) -> Iterator[bytes]:
        yield b"GGUF"
        sys.exit(1)

    monkeypatch.setattr(repack._Source, "chunks", end)
    with pytest.raises(SystemExit):
        find_or_repack(model)
    assert names(model.parent) == [model.name]


def test_the_program_ends_with_its_parent(model: Path) -> None:
    partial = partial_of(model)
    parent = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    with partial.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = subprocess.Popen(
            [sys.executable, "-c", parent, *PROGRAM, str(model)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stdout is not None
        assert run.stderr is not None
        child = int(run.stdout.readline())
        assert "waiting" in run.stderr.readline()
        run.send_signal(signal.SIGKILL)
        run.wait(PATIENCE)
        until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())
        run.communicate()
    partial.unlink()


def test_the_program_imports_no_engine_and_nothing_of_the_web_side() -> None:
    code = "import sys, glm_api.pipeline.worker.llama_cpp.repack; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {name.split(".")[0] for name in run.stdout.split()}
    assert found.isdisjoint({"xllamacpp", "flask", "chatglm_cpp", "gevent", "numpy", "marshmallow"})
