"""llama.cpp answers from repacked files as chatglm_cpp does from the original ones, id by id."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C, CALL_HOOK
from glm_api.pipeline.worker.gguf_file import inspect_gguf
from glm_api.pipeline.worker.llama_cpp.repack import find_or_repack
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.vocabulary import read_gguf_vocabulary, read_vocabulary
from tests.support.llama_cpp import llama_server
from tests.support.model_files import real_vocabularies
from tests.support.model_files.fixtures import DEMO_MODEL
from tests.support.model_files.writer import Family
from tests.support.processes import ROOT

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8}
PROMPT = [300, 265, 9, 270, 301, 40, 299, 262, 310, 55]
ANSWER = 32
# The engines add up in different orders, and round what they multiply quantized weights by. With random weights that
# moves logits, which have a standard deviation of 1.6, by up to 0.12. So where two ids are nearly as likely, either may
# be the likeliest.
NEARLY = 0.25


def test_the_demo_model_answers_with_the_same_ids(tmp_path: Path) -> None:
    repacked = find_or_repack(Path(shutil.copy(DEMO_MODEL, tmp_path)))
    cases = json.loads((ROOT / "demo" / "parity.json").read_text())
    assert len(cases) > 90
    with llama_server(repacked, tmp_path) as server:
        for case in cases:
            expected = case["greedy_ids"]
            assert server.greedy(case["prompt_ids"], len(expected)) == expected, case["name"]


def steps(path: Path, prompt: list[int]) -> list[tuple[int, float]]:
    """Return the ids of chatglm_cpp's greedy answer, and by how much the logit of each is above all others."""
    # Not with `open_model`, which keeps what it has opened: ggml has room for 21 open models.
    pipeline = _C.Pipeline(str(path), -1)
    found: list[tuple[int, float]] = []
    logits: list[bridge.Logits] = []
    config = _C.GenerationConfig(do_sample=False, repetition_penalty=CALL_HOOK)
    ids = list(prompt)
    with bridge.logits_hook(lambda seen: logits.append(seen.copy())) as raise_failure:
        past = 0
        for _ in range(ANSWER):
            token = int(pipeline.model.generate_next_token(ids, None, config, past, 512))
            raise_failure()
            second, first = np.sort(logits[-1])[-2:]
            found.append((token, float(first - second)))
            past = len(ids)
            ids.append(token)
    return found


@pytest.mark.parametrize("family", ["chatglm2", "chatglm3", "glm4"])
@pytest.mark.parametrize("weights", TYPES)
def test_a_model_of_any_type_answers_with_the_same_ids(
    family: Family, weights: str, model_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = model_file(family, weight_type=TYPES[weights], extra_rows=3)
    repacked = find_or_repack(Path(shutil.copy(path, tmp_path)))
    end_ids = inspect_gguf(repacked).end_ids
    clear = 0
    ids = list(PROMPT)
    with llama_server(repacked, tmp_path) as server:
        for token, margin in steps(path, PROMPT):
            if margin > NEARLY and token not in end_ids:
                clear += 1
                assert server.greedy(ids, 1) == [token]
            ids.append(token)
    assert clear > ANSWER // 3


@pytest.mark.parametrize("family", ["chatglm2", "chatglm3", "glm4"])
def test_llama_cpp_ends_an_answer_where_chatglm_cpp_does(
    family: Family, model_file: Callable[..., Path], tmp_path: Path
) -> None:
    vocabulary = read_vocabulary(inspect(model_file(family)))
    ends = {"chatglm2": [2], "chatglm3": [2]}.get(family, [vocabulary.specials.get("<|endoftext|>", -1)])
    ends += [vocabulary.specials[name] for name in ("<|user|>", "<|observation|>") if name in vocabulary.specials]
    # Each chain goes on behind the end, to see that the answer does not.
    chains = [(300 + 3 * at, 301 + 3 * at, end, 302 + 3 * at) for at, end in enumerate(ends)]
    middle = vocabulary.specials.get("<|assistant|>", vocabulary.specials["[gMASK]"])
    path = model_file(family, script=(*chains, (280, middle, 281, ends[0])))
    repacked = find_or_repack(Path(shutil.copy(path, tmp_path)))
    with llama_server(repacked, tmp_path) as server:
        for first, second, end, _ in chains:
            assert server.greedy([first], 10) == [second, end]
        assert server.greedy([280], 10) == [middle, 281, ends[0]]


VOCABULARIES: list[tuple[str, Family]] = [
    ("chatglm3", "chatglm2"),
    ("chatglm3", "chatglm3"),
    ("codegeex2", "chatglm2"),
    ("glm-4", "glm4"),
]


@real_vocabularies.needed
@pytest.mark.parametrize(("name", "family"), VOCABULARIES)
def test_the_published_vocabularies_are_the_same(
    name: str, family: Family, model_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(model_file(family, **real_vocabularies.fields(name, family)), tmp_path))
    file = inspect_gguf(find_or_repack(path))
    original, copied = read_vocabulary(inspect(path)), read_gguf_vocabulary(file)
    # llama.cpp's tokenizer never normalizes.
    assert copied == replace(original, covers_all=True)
    assert file.family == {"chatglm2": "ChatGLM2", "chatglm3": "ChatGLM3", "glm4": "ChatGLM4"}[family]


# What llama.cpp would make special tokens of, and a token that merges do not make.
MORE_VECTORS = {
    "chatglm3": [("philosophy of peoples", [8827, 290, 14413]), ("soprano", [268, 27419, 3683])],
    "glm-4": [("我的 学校", [99198, 108661])],
}


@real_vocabularies.needed
@pytest.mark.parametrize(("name", "family"), VOCABULARIES)
def test_llama_cpp_tokenizes_as_the_published_tokenizer_does(
    name: str, family: Family, model_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(model_file(family, **real_vocabularies.fields(name, family)), tmp_path))
    repacked = find_or_repack(path)
    # llama.cpp is told of no space in front, so that it keeps grammars.
    space = " " if read_vocabulary(inspect(path)).begins_with_space else ""
    vectors = [(text, ids) for text, ids in real_vocabularies.vectors(name) if text]
    vectors += MORE_VECTORS.get(name, [])
    with llama_server(repacked, tmp_path) as server:
        assert {text: server.tokenize(space + text) for text, _ in vectors} == dict(vectors)
