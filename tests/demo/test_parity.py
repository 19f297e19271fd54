"""The exported demo model answers in chatglm-cpp what PyTorch answers from the same weights."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.recipe.generate import DemoModel
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from glm_api.pipeline.worker.chatglm_cpp.sampling import Logprobs, logprobs
from tests.support.model_files.fixtures import OpenModel

DEMO = Path(__file__).resolve().parents[2] / "demo"
MODEL = DEMO / "chatglm3-demo.q8_0.bin"
FIXTURE = json.loads((DEMO / "parity.json").read_text(encoding="utf-8"))
LOGPROBS = json.loads((DEMO / "logprobs.json").read_text(encoding="utf-8"))
F32, Q8_0 = 0, 8


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return DemoModel(MODEL)


def test_fixture_has_twenty_prompts() -> None:
    assert len(FIXTURE) >= 20


@pytest.mark.parametrize("case", FIXTURE, ids=lambda case: case["name"])
def test_chatglm_cpp_equals_recorded_pytorch(model: DemoModel, case: dict[str, Any]) -> None:
    given = model.greedy(case["prompt_ids"], max_new_tokens=len(case["greedy_ids"]))
    assert given == case["greedy_ids"]


def test_recorded_answers_are_those_of_pytorch() -> None:
    """Skipped without PyTorch, which only the recipe needs."""
    pytest.importorskip("torch")
    pytest.importorskip("sentencepiece")
    from demo.recipe.parity import greedy_answers

    assert greedy_answers(MODEL) == FIXTURE


# --- logits -------------------------------------------------------------------------------------------------------


def evaluate(model: Any, ids: list[int], first: int, hook: Callable[[bridge.Logits], None]) -> list[int]:
    """Evaluate the first ``first`` of ``ids`` in one call and the others one by one; return the likeliest ids."""
    config = _C.GenerationConfig(do_sample=False, repetition_penalty=bridge.CALL_HOOK)
    likeliest = []
    with bridge.logits_hook(hook) as raise_failure:
        for length in range(first, len(ids) + 1):
            past = 0 if length == first else length - 1
            likeliest.append(model.generate_next_token(ids[:length], None, config, past, first))
            raise_failure()
    return likeliest


@pytest.mark.parametrize("case", FIXTURE[::8], ids=lambda case: case["name"])
def test_a_hook_that_reads_the_logits_changes_no_answer(open_demo: OpenModel, case: dict[str, Any]) -> None:
    prompt, answer = case["prompt_ids"], case["greedy_ids"]
    seen: list[int] = []
    ids = [*prompt, *answer[:-1]]
    given = evaluate(open_demo.pipeline.model, ids, len(prompt), lambda logits: seen.append(int(logits.argmax())))
    assert given == seen == answer


def as_f32(data: bytes) -> bytes:
    """Return a GGML file with its q8_0 matrices in float32."""
    file, written = io.BytesIO(data), io.BytesIO()

    def numbers(count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", file.read(4 * count))

    header = bytearray(file.read(64))  # magic, model type and configuration, whose second number is the weights' type
    struct.pack_into("<i", header, 12, F32)
    (tokenizer_bytes,) = numbers(1)
    written.write(header + struct.pack("<i", tokenizer_bytes) + file.read(tokenizer_bytes))
    while file.tell() < len(data):
        (name_bytes,) = numbers(1)
        name = file.read(name_bytes)
        (dimensions,) = numbers(1)
        *shape, kind = numbers(dimensions + 1)
        file.seek(-file.tell() % 16, io.SEEK_CUR)
        count = math.prod(shape)
        if kind == Q8_0:
            blocks = np.frombuffer(file.read(count // 32 * 34), np.dtype([("scale", "<f2"), ("values", "i1", 32)]))
            values = (blocks["scale"].astype("<f4")[:, None] * blocks["values"]).tobytes()
        else:
            values = file.read(4 * count)
        written.write(struct.pack("<i", name_bytes) + name)
        written.write(struct.pack(f"<{dimensions + 2}i", dimensions, *shape, F32))
        written.write(bytes(-written.tell() % 16) + values)
    return written.getvalue()


@pytest.fixture(scope="module")
def f32_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """chatglm_cpp's model with the same weights in float32."""
    path = tmp_path_factory.mktemp("f32") / "demo.f32.bin"
    path.write_bytes(as_f32(MODEL.read_bytes()))
    return _C.Pipeline(str(path), -1).model


def check(told: Iterable[float], expected: Iterable[float]) -> None:
    """Compare log-probabilities.

    The keys and values of attention are float16. A value between two of these may be rounded up here and down in
    PyTorch; that changes some log-probabilities by more than a thousandth.
    """
    differences = np.abs(np.subtract(list(told), list(expected)))
    assert differences.mean() < 1e-3
    assert differences.max() < 1e-2


@pytest.mark.parametrize("case", LOGPROBS, ids=lambda case: case["name"])
def test_logprobs_equal_recorded_pytorch(f32_model: Any, case: dict[str, Any]) -> None:
    prompt, answer, top = case["prompt_ids"], case["greedy_ids"], case["top_logprobs"]
    of_prompt: list[float] = []
    evaluate(
        f32_model,
        prompt[:-1],
        1,
        lambda logits: of_prompt.append(logprobs(logits, prompt[len(of_prompt) + 1], 0).chosen),
    )
    check(of_prompt, case["prompt_logprobs"])
    found: list[Logprobs] = []
    ids = [*prompt, *answer[:-1]]
    given = evaluate(
        f32_model, ids, len(prompt), lambda logits: found.append(logprobs(logits, answer[len(found)], len(top[0])))
    )
    assert given == answer
    assert [place.chosen for place in found] == pytest.approx([place[0][1] for place in top], abs=1e-3)
    check((value for place in found for _, value in place.top), (value for place in top for _, value in place))


def test_recorded_logprobs_are_those_of_pytorch() -> None:
    """Skipped without PyTorch, which only the recipe needs."""
    pytest.importorskip("torch")
    pytest.importorskip("sentencepiece")
    from demo.recipe.parity import logprobs

    for case, recorded in zip(logprobs(MODEL), LOGPROBS, strict=True):
        assert case["prompt_ids"] == recorded["prompt_ids"]
        assert case["greedy_ids"] == recorded["greedy_ids"]
        check(case["prompt_logprobs"], recorded["prompt_logprobs"])
        for place, recorded_place in zip(case["top_logprobs"], recorded["top_logprobs"], strict=True):
            check((value for _, value in place), (value for _, value in recorded_place))
