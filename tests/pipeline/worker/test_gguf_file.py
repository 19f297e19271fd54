"""What is read of GGUF files, and which of them are refused: in one line, whatever is in them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_api.pipeline.worker.gguf_file import FAMILY_KEY, GgufError, GgufFile, Strings, inspect_gguf
from tests.support.model_files.gguf import (
    FLOAT32,
    INT32,
    INT64,
    STRING,
    UINT8,
    UINT16,
    UINT64,
    Tensor,
    Typed,
    Value,
    gguf,
    gguf_of,
    string,
    zeros,
)
from tests.support.processes import ROOT
from tests.support.upstream import gguf_model

ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
CHATGLM2 = ["<unk>", "<s>", "</s>", "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]
CHATGLM3 = [*CHATGLM2, *ROLES]
GLM4 = ["a", "b", "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *ROLES]


def metadata(architecture: str = "llama", tokens: list[str] | None = None, /, **extra: Value) -> dict[str, Value]:
    """The metadata of a tiny model. Keys of ``extra`` have ``__`` in place of a dot; ``A__`` is the architecture's."""
    names = tokens or ["<unk>", "<s>", "</s>", "a"]
    written: dict[str, Value] = {
        "general.architecture": architecture,
        "general.name": "Tiny",
        f"{architecture}.context_length": 128,
        f"{architecture}.embedding_length": 8,
        f"{architecture}.block_count": 3,
        f"{architecture}.attention.head_count": 4,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": Typed(FLOAT32, [0.0] * len(names)),
        "tokenizer.ggml.token_type": [1] * len(names),
    }
    return written | {
        key.replace("__", ".").replace("A.", f"{architecture}.", 1)
        if key.startswith("A__")
        else key.replace("__", "."): value
        for key, value in extra.items()
    }


def tensors(rows: int = 4) -> dict[str, Tensor]:
    return {"token_embd.weight": zeros(8, rows), "output_norm.weight": zeros(3), "output.weight": zeros(8, rows)}


def written(folder: Path, content: bytes, name: str = "tiny.gguf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def inspected(folder: Path, described: Mapping[str, Value], rows: int | None = None) -> GgufFile:
    tokens = described["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    return inspect_gguf(written(folder, gguf(described, tensors(len(tokens) if rows is None else rows))))


def refusal(path: Path) -> str:
    """Return the one line with which ``path`` is refused."""
    with pytest.raises(GgufError) as refused:
        inspect_gguf(path)
    assert "\n" not in str(refused.value)
    assert path.name in str(refused.value)
    return str(refused.value)


def accepted(path: Path) -> bool:
    """Return whether ``path`` is accepted; otherwise it is refused in one line."""
    try:
        inspect_gguf(path)
    except GgufError:
        refusal(path)
        return False
    return True


# --- what is read ---


def test_a_model_says_what_the_engine_needs(tmp_path: Path) -> None:
    content = gguf(
        metadata(
            tokenizer__chat_template="{{ x }}",
            tokenizer__ggml__pre="default",
            tokenizer__ggml__eos_token_id=2,
            tokenizer__ggml__eot_token_id=3,
            tokenizer__ggml__eom_token_id=99,
        ),
        tensors(),
    )
    path = written(tmp_path, content)
    file = inspect_gguf(path)
    assert (file.path, file.parts, file.file_bytes) == (path, (path,), len(content))
    assert (file.architecture, file.name, file.family, file.is_projector) == ("llama", "Tiny", None, False)
    assert (file.context_length, file.vocabulary_size, file.layers) == (128, 4, 3)
    assert (file.tokenizer_model, file.tokenizer_pre, file.chat_template) == ("llama", "default", "{{ x }}")
    # An id that the vocabulary does not have ends nothing.
    assert file.end_ids == {2, 3}
    assert list(file.tensors) == ["token_embd.weight", "output_norm.weight", "output.weight"]


def test_a_model_that_llama_cpp_loads_is_accepted(tmp_path: Path) -> None:
    file = inspect_gguf(gguf_model.write_model(tmp_path / "tiny.gguf"))
    assert (file.name, file.context_length) == (gguf_model.NAME, gguf_model.CONTEXT)
    assert file.slot_bytes(100) == 2 * 2 * gguf_model.LAYERS * gguf_model.HIDDEN * 100
    assert not file.add_space_prefix


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [1, 32, 4096])
def test_tensors_lie_where_the_file_says(version: int, alignment: int, tmp_path: Path) -> None:
    described = {name: Tensor((4,), os.urandom(16)) for name in ("a", "b")} | tensors()
    content = gguf(metadata(general__alignment=alignment), described, version=version, alignment=alignment)
    found = inspect_gguf(written(tmp_path, content)).tensors
    for name, tensor in described.items():
        place = found[name]
        assert (place.shape, place.bytes) == (tuple(tensor.shape), len(tensor.data))
        assert content[place.offset : place.offset + place.bytes] == tensor.data


def test_all_types_of_values_are_read(tmp_path: Path) -> None:
    extra: dict[str, Value] = {
        f"x__{type}": Typed(type, 1.0 if type in (FLOAT32, 12) else 1) for type in range(13) if type not in (STRING, 9)
    }
    file = inspected(tmp_path, metadata(**extra, x__list=Typed(INT64, [-1, 2]), x__texts=[b"\xff", b""]))
    assert all(file.metadata[key.replace("__", ".")] == 1 for key in extra)
    numbers, texts = file.metadata["x.list"], file.metadata["x.texts"]
    assert isinstance(texts, Strings)
    assert not isinstance(numbers, Strings | str | float | int)
    assert (list(numbers), list(texts), len(texts)) == ([-1, 2], [b"\xff", b""], 2)


@pytest.mark.parametrize(
    ("tokenizer", "said", "adds"), [("llama", None, True), ("llama", False, False), ("gpt2", None, False)]
)
def test_whether_llama_cpp_puts_a_space_in_front(tokenizer: str, said: bool | None, adds: bool, tmp_path: Path) -> None:
    extra: dict[str, Value] = {} if said is None else {"tokenizer__ggml__add_space_prefix": said}
    assert inspected(tmp_path, metadata(tokenizer__ggml__model=tokenizer, **extra)).add_space_prefix is adds


def test_a_projector_is_recognized(tmp_path: Path) -> None:
    file = inspect_gguf(written(tmp_path, gguf({"general.architecture": "clip"}, {"v.patch_embd.weight": zeros(2, 2)})))
    assert file.is_projector
    assert (file.context_length, file.vocabulary_size, file.layers) == (0, 0, 0)


@pytest.mark.parametrize(
    ("extra", "values"),
    [
        # Three layers of 4 heads with 2 values.
        ({}, 3 * 4 * (2 + 2)),
        ({"A__attention__head_count_kv": 1}, 3 * (2 + 2)),
        ({"A__attention__head_count_kv": [4, 0, 2]}, (4 + 0 + 2) * (2 + 2)),
        ({"A__attention__head_count": [4, 2, 2]}, (4 + 2 + 2) * (2 + 2)),
        ({"A__attention__key_length": 16, "A__attention__value_length": 8}, 3 * 4 * (16 + 8)),
        ({"A__nextn_predict_layers": 1}, 2 * 4 * (2 + 2)),
    ],
)
def test_a_slot_holds_keys_and_values_of_every_layer_in_16_bits(
    extra: dict[str, Value], values: int, tmp_path: Path
) -> None:
    assert inspected(tmp_path, metadata(**extra)).slot_bytes(100) == 2 * values * 100


def test_a_model_without_attention_has_slots_of_some_size(tmp_path: Path) -> None:
    assert inspected(tmp_path, metadata("mamba", A__attention__head_count=0)).slot_bytes(100) == 1


@pytest.mark.parametrize("key_length", [{"A__attention__key_length": 576, "A__attention__value_length": 512}, {}])
def test_a_slot_of_latent_attention_holds_the_latent_keys_only(key_length: dict[str, Value], tmp_path: Path) -> None:
    described = metadata(
        "deepseek2",
        A__attention__head_count_kv=1,
        A__attention__kv_lora_rank=512,
        A__attention__key_length_mla=192,
        A__attention__value_length_mla=128,
        A__rope__dimension_count=64,
        **(key_length or {"A__attention__key_length": 0}),
    )
    assert inspected(tmp_path, described).slot_bytes(100) == 2 * 3 * 576 * 100


def test_a_slot_of_sparse_attention_holds_the_keys_of_its_index_too(tmp_path: Path) -> None:
    plain = inspected(tmp_path, metadata("glm-dsa"))
    sparse = inspected(tmp_path, metadata("glm-dsa", A__attention__indexer__key_length=128))
    assert sparse.slot_bytes(100) - plain.slot_bytes(100) == 2 * 3 * 128 * 100


# --- the families that have formats of our own ---


@pytest.mark.parametrize(
    ("architecture", "tokenizer", "tokens", "template", "family"),
    [
        ("chatglm", "llama", CHATGLM3, None, "ChatGLM3"),
        ("chatglm", "llama", CHATGLM3, "[gMASK]sop<|user|>", "ChatGLM3"),
        ("chatglm", "llama", CHATGLM2, None, "ChatGLM2"),
        ("chatglm", "llama", ["a", "b"], None, None),
        ("chatglm", "gpt2", GLM4, "[gMASK]<sop>{{ x }}", "ChatGLM4"),
        # GLM-Edge
        ("chatglm", "gpt2", GLM4, "<|user|>\n{{ x }}", None),
        ("chatglm", "gpt2", GLM4, None, None),
        ("chatglm", "bert", GLM4, None, None),
        ("glm4", "gpt2", GLM4, "[gMASK]<sop>{{ x }}", None),
        ("glm4moe", "gpt2", GLM4, "[gMASK]<sop>{{ x }}", None),
        ("deepseek2", "gpt2", GLM4, None, None),
    ],
)
def test_a_family_is_recognized_by_architecture_and_special_tokens(
    architecture: str, tokenizer: str, tokens: list[str], template: str | None, family: str | None, tmp_path: Path
) -> None:
    extra: dict[str, Value] = {} if template is None else {"tokenizer__chat_template": template}
    file = inspected(tmp_path, metadata(architecture, tokens, tokenizer__ggml__model=tokenizer, **extra))
    assert file.family == family


def test_a_glm4_without_a_template_is_recognized_by_the_size_of_its_vocabulary(tmp_path: Path) -> None:
    tokens = [f"t{index}" for index in range(151_329)] + GLM4[2:]
    assert inspected(tmp_path, metadata("chatglm", tokens, tokenizer__ggml__model="gpt2")).family == "ChatGLM4"


def test_our_own_key_tells_a_family_only_of_a_file_that_has_its_tokens(tmp_path: Path) -> None:
    said: dict[str, Value] = {FAMILY_KEY.replace(".", "__"): "ChatGLM4", "tokenizer__ggml__model": "gpt2"}
    assert inspected(tmp_path, metadata("chatglm", GLM4, **said)).family == "ChatGLM4"
    assert inspected(tmp_path, metadata("chatglm", CHATGLM2, **said)).family is None


def test_an_answer_of_the_chatglm_architecture_ends_where_a_turn_of_another_begins(tmp_path: Path) -> None:
    file = inspected(tmp_path, metadata("chatglm", CHATGLM3, tokenizer__ggml__eos_token_id=2))
    assert file.end_ids == {2, CHATGLM3.index("<|user|>"), CHATGLM3.index("<|observation|>")}
    assert inspected(tmp_path, metadata("glm4", CHATGLM3, tokenizer__ggml__eos_token_id=2)).end_ids == {2}


# --- split files ---


def split(folder: Path, count: int = 3, stem: str = "big") -> list[Path]:
    """A model in parts; the first has no tensors, as some have."""
    parts = []
    for number, (name, tensor) in enumerate([("", zeros(1)), *tensors().items()][:count]):
        described: dict[str, Value] = metadata() if number == 0 else {}
        described["split.no"] = Typed(UINT16, number)
        described["split.count"] = Typed(UINT16, count)
        described["split.tensors.count"] = Typed(INT32, count - 1)
        content = gguf(described, {name: tensor} if name else {})
        parts.append(written(folder, content, f"{stem}-{number + 1:05d}-of-{count:05d}.gguf"))
    return parts


def test_the_first_of_a_split_file_stands_for_all(tmp_path: Path) -> None:
    parts = split(tmp_path)
    file = inspect_gguf(parts[0])
    assert file.parts == tuple(parts)
    assert file.file_bytes == sum(part.stat().st_size for part in parts)
    assert {name: tensor.path for name, tensor in file.tensors.items()} == {
        "token_embd.weight": parts[1],
        "output_norm.weight": parts[2],
    }


def test_another_part_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    parts = split(tmp_path)
    assert "Set GLM_MODEL to big-00001-of-00003.gguf" in refusal(parts[1])


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[2].unlink()
    assert "big-00003-of-00003.gguf is missing" in refusal(parts[0])


def test_a_part_that_was_renamed_is_refused(tmp_path: Path) -> None:
    part = split(tmp_path)[0].rename(tmp_path / "model.gguf")
    assert "must end in -00001-of-00003.gguf" in refusal(part)


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    parts = split(tmp_path)
    (tmp_path / "other").mkdir()
    other = split(tmp_path / "other", count=2)
    parts[1].write_bytes(other[1].read_bytes())
    with pytest.raises(GgufError, match=r"^big-00002-of-00003.gguf is damaged: it is not part 2 of 3"):
        inspect_gguf(parts[0])
    parts[1].write_bytes(parts[2].read_bytes().replace(b"split.no\x02\0\0\0\x02", b"split.no\x02\0\0\0\x01"))
    with pytest.raises(GgufError, match="tensors that another part has too"):
        inspect_gguf(parts[0])


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[2].write_bytes(parts[2].read_bytes()[:-1])
    with pytest.raises(GgufError, match=r"^big-00003-of-00003.gguf ends too early"):
        inspect_gguf(parts[0])


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"GG", "is not a GGUF file"),
        (b"GGUF", "ends too early"),
        (b"ggml" + bytes(40), "is a GGML file"),
        (b'\x10\x02\0\0\0\0\0\0{"a":1}', "safetensors"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer, not the file itself. Run `git lfs pull`"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "GGUF version 1"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "GGUF version 4"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 63), "keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "a name of"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string(""), "without a name"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string(b"\xff"), "UTF-8"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", 13), "unknown type 13"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 9, 1), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IQ", 8, 1 << 63), "ends too early"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 0, 1 << 61), "ends too early"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 1 << 20), "ends too early"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 1 << 61), "more texts"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQQ", 9, 8, 1, 1 << 63), "too early"),
    ],
)
def test_a_file_of_another_kind_or_without_sense_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(written(tmp_path, content))


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "absent.gguf")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"general__type": "adapter"}, "adapter"),
        ({"general__architecture": ""}, "architecture"),
        ({"general__architecture": 3}, "'general.architecture' is not a text"),
        ({"general__architecture": "qwen\n3"}, r"no 'qwen\\n3.block_count'"),
        ({"general__name": 1.0}, "'general.name' is not a text"),
        ({"general__alignment": 48}, "aligns its tensors at 48"),
        ({"general__alignment": 0}, "aligns its tensors at 0"),
        ({"general__alignment": 1 << 31}, "'general.alignment' is"),
        ({"general__alignment": "32"}, "'general.alignment' is not a number"),
        ({"A__context_length": 0}, "'llama.context_length' is 0"),
        ({"A__context_length": True}, "'llama.context_length' is not a number"),
        ({"A__context_length": Typed(UINT64, 1 << 63)}, "'llama.context_length' is 9"),
        ({"A__block_count": 1 << 20}, "'llama.block_count' is"),
        ({"A__block_count": Typed(INT32, -1)}, "'llama.block_count' is -1"),
        ({"A__nextn_predict_layers": 3}, "'llama.nextn_predict_layers' is 3"),
        ({"A__embedding_length": Typed(FLOAT32, float("nan"))}, "'llama.embedding_length' is not a number"),
        ({"A__attention__head_count": [4, 4]}, "not a number for each layer"),
        ({"A__attention__head_count_kv": [4, -4, 4]}, "not a number for each layer"),
        ({"A__attention__head_count_kv": Typed(FLOAT32, [4.0, 4.0, 4.0])}, "not a number for each layer"),
        ({"A__attention__head_count_kv": ["4", "4", "4"]}, "is not a number"),
        ({"A__attention__key_length": Typed(UINT64, 1 << 40)}, "key_length' is"),
        ({"A__attention__head_count_kv": 3}, "cannot share"),
        ({"A__attention__head_count_kv": [4, 8, 4]}, "cannot share"),
        ({"A__rope__dimension_count": 4}, "rotates 4 of the 2 numbers"),
        ({"tokenizer__ggml__model": ""}, "has no tokenizer"),
        ({"tokenizer__ggml__tokens": [1, 2, 3, 4]}, "has no tokenizer"),
        ({"tokenizer__ggml__tokens": ["a", "b", "c"]}, "3 tokens, but embeddings of 4"),
        ({"tokenizer__ggml__eos_token_id": "2"}, "is not a number"),
        ({"tokenizer__ggml__add_space_prefix": 1}, "neither true nor false"),
        ({"tokenizer__chat_template": b"\xff"}, "UTF-8"),
        ({"split__count": 2}, "must end in"),
        ({"glm_api__family": 3}, "is not a text"),
    ],
)
def test_metadata_that_cannot_be_are_refused(extra: dict[str, Value], said: str, tmp_path: Path) -> None:
    described = metadata(**extra)
    content = gguf(described, tensors())
    with pytest.raises(GgufError, match=said) as refused:
        inspect_gguf(written(tmp_path, content))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "llama.context_length",
        "llama.block_count",
        "llama.embedding_length",
        "tokenizer.ggml.model",
    ],
)
def test_metadata_that_are_missing_are_named(key: str, tmp_path: Path) -> None:
    described = metadata()
    del described[key]
    refusal(written(tmp_path, gguf(described, tensors())))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (Tensor((4,), bytes(16), offset=32), "are not behind those"),
        (Tensor((4,), bytes(16), offset=1), "are not behind those"),
        (Tensor((4,), bytes(16), offset=1 << 63), "are not behind those"),
        (Tensor((4,), bytes(16), type=99), "unknown type 99"),
        (Tensor((4,), bytes(16), type=4), "unknown type 4"),
        (Tensor((40,), bytes(34), type=8), "whole blocks"),
        (Tensor((0,), b""), "whole blocks"),
        (Tensor((1, 1, 1, 1, 1), bytes(4)), "5 dimensions"),
        (Tensor((1 << 40, 1 << 40), bytes(16)), "ends too early"),
        (Tensor(((1 << 64) - 1,), bytes(16)), "ends too early"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tensor: Tensor, said: str, tmp_path: Path) -> None:
    assert said in refusal(written(tmp_path, gguf(metadata(), {"x": tensor})))


def test_tensors_that_overlap_are_refused(tmp_path: Path) -> None:
    overlapping = {"x": Tensor((64,), bytes(256)), "y": Tensor((8,), bytes(32), offset=32)}
    assert "are not behind those" in refusal(written(tmp_path, gguf(metadata(), overlapping)))


def test_what_is_there_twice_is_refused(tmp_path: Path) -> None:
    described, table = list(metadata().items()), list(tensors().items())
    assert "'general.name' twice" in refusal(written(tmp_path, gguf_of([*described, ("general.name", "again")], table)))
    assert "'output.weight' twice" in refusal(written(tmp_path, gguf_of(described, [*table, table[-1]])))


@pytest.mark.parametrize("name", ["token_embd.weight", None])
def test_a_model_without_embeddings_is_refused(name: str | None, tmp_path: Path) -> None:
    described = {"token_embd.weight": zeros(8)} if name else {}
    assert "embeddings" in refusal(written(tmp_path, gguf(metadata(), described)))


def test_a_model_that_makes_images_is_refused(tmp_path: Path) -> None:
    content = gguf({"general.architecture": "flux"}, {"img_in.weight": zeros(8, 8)})
    assert "holds no language model ('flux')" in refusal(written(tmp_path, content))


def test_names_from_the_file_are_quoted_and_cut_in_messages(tmp_path: Path) -> None:
    name = "x\n" * 30_000
    message = refusal(written(tmp_path, gguf_of([(name, 1), (name, 1)], [])))
    assert len(message) < 300


def test_a_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = gguf(metadata(), tensors())
    path = written(tmp_path, whole)
    inspect_gguf(path)
    for keep in range(len(whole)):
        path.write_bytes(whole[:keep])
        refusal(path)


def test_a_file_with_a_flipped_byte_is_accepted_or_refused_in_one_line(tmp_path: Path) -> None:
    whole = gguf(metadata(tokenizer__chat_template="{{ x }}"), tensors())
    path = written(tmp_path, whole)
    data = inspect_gguf(path).tensors["token_embd.weight"].offset
    refused = 0
    for at in range(data):
        for flipped in (0x01, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ flipped]) + whole[at + 1 :])
            refused += not accepted(path)
    # A letter of a text may be another one; most of the header are numbers and names that must be there.
    assert refused > data // 2


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_file_that_is_damaged_anyhow_is_accepted_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = gguf(metadata("chatglm", CHATGLM3), tensors(len(CHATGLM3)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        cut = data.draw(st.integers(0, 16))
        numbers = st.sampled_from([0, 1, 9, 1 << 31, (1 << 63) - 1, (1 << 64) - 1]).map(lambda n: struct.pack("<Q", n))
        whole = whole[:at] + data.draw(st.binary(max_size=16) | numbers) + whole[at + cut :]
    path = written(tmp_path_factory.mktemp("damaged"), whole)
    accepted(path)


@pytest.mark.parametrize("claim", [struct.pack("<IIQ", 9, UINT8, 5 << 30), struct.pack("<IIQ", 9, STRING, 1 << 21)])
def test_a_huge_file_of_nothing_costs_little_memory(claim: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + claim)
    os.truncate(path, 10 << 30)
    code = (
        "import pathlib, resource, sys; from glm_api.pipeline.worker.gguf_file import GgufError, inspect_gguf\n"
        "resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))\n"
        "try: inspect_gguf(pathlib.Path(sys.argv[1]))\n"
        "except GgufError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert path.name in run.stdout


def test_a_vocabulary_of_hundreds_of_thousands_of_tokens_is_read(tmp_path: Path) -> None:
    tokens = [f"token {index}" for index in range(200_000)]
    merges = [f"{index} {index}" for index in range(300_000)]
    described = metadata("llama", tokens, tokenizer__ggml__merges=merges)
    file = inspected(tmp_path, described)
    found = file.metadata["tokenizer.ggml.tokens"]
    assert isinstance(found, Strings)
    assert [token.decode() for token in found] == tokens
    assert file.vocabulary_size == 200_000
