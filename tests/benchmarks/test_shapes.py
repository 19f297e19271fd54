"""Synthetic models of every size answer a known text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bare_loop import answer
from benchmarks.shapes import CHARACTERS, SYNTHETIC, Shape, write_model
from glm_api.pipeline.worker.chatglm_cpp.bridge import chatglm_cpp
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.vocabulary import read_vocabulary

NANO = Shape(
    "nano", hidden=128, layers=2, heads=4, key_value_heads=2, intermediate=256, vocabulary=1024, max_length=512
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "nano.bin"
    write_model(path, NANO)
    return path


def test_models_are_written_without_the_packages_of_the_tests() -> None:
    """``make bench`` does not install them."""
    without = "import sys; sys.modules.update(dict.fromkeys(('hypothesis', 'pytest'))); import benchmarks.shapes"
    subprocess.run([sys.executable, "-c", without], check=True)


def test_the_file_is_whole(path: Path) -> None:
    found = inspect(path)
    assert (found.hidden_size, found.layers, found.vocabulary_size) == (NANO.hidden, NANO.layers, NANO.vocabulary)


def test_every_answer_is_the_text_over_and_over(path: Path) -> None:
    pipeline = chatglm_cpp.Pipeline(str(path), max_length=512)
    text = "the weather is" + CHARACTERS
    for question in ("你好", "hello"):
        found = answer(pipeline, 512, [{"role": "user", "content": question}], 130)
        assert found["tokens"] == 130
        assert (text + " " + text + " " + text).startswith(found["text"])
        assert len(found["text"]) > len(text)


def test_the_next_turn_begins_with_the_ids_that_were_generated(path: Path) -> None:
    pipeline = chatglm_cpp.Pipeline(str(path), max_length=512)
    question = chatglm_cpp.ChatMessage(role="user", content="你好")
    said = chatglm_cpp.ChatMessage(role="assistant", content="the weather is的一")
    first = pipeline.tokenizer.apply_chat_template([question], 512)
    config = chatglm_cpp._C.GenerationConfig(max_length=512, max_new_tokens=7, do_sample=False)
    generated = list(pipeline._stream_generate_ids(first, None, config))
    assert (
        pipeline.tokenizer.apply_chat_template([question, said, question], 512)[: len(first) + 7] == first + generated
    )


def test_the_full_shape_is_chatglm3_6b() -> None:
    assert SYNTHETIC["full"].parameters == pytest.approx(6.24e9, rel=0.01)


def test_each_row_of_the_vocabulary_has_a_token(path: Path) -> None:
    """What a grammar costs depends on the number of tokens, and the real model has one for nearly each row."""
    vocabulary = read_vocabulary(inspect(path))
    assert len(vocabulary.pieces) == NANO.vocabulary
    assert sum(map(bool, vocabulary.pieces)) == NANO.vocabulary - len(vocabulary.specials)


def test_each_character_of_a_prompt_is_a_token(path: Path) -> None:
    tokenizer = chatglm_cpp.Pipeline(str(path), max_length=512).tokenizer
    one, two = (tokenizer.encode(CHARACTERS * times, 512) for times in (1, 2))
    assert len(two) - len(one) == len(CHARACTERS)
