"""The number of cache slots, and of tokens in one call, that memory admits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glm_api.pipeline.worker.memory import RESERVE_BYTES, available_bytes, longest_batch, plan_slots
from glm_api.pipeline.worker.model_file import ModelFile, inspect
from glm_api.pipeline.worker.service import LoadError


@pytest.fixture
def model(model_file: Callable[[str], Path]) -> ModelFile:
    return inspect(model_file("chatglm3"))


def test_the_free_memory_of_this_machine_is_found() -> None:
    available = available_bytes()
    assert available is not None
    assert available > 0


def test_a_slot_holds_keys_and_values_of_every_layer_in_16_bits(model: ModelFile) -> None:
    head_size = model.hidden_size // model.attention_heads
    assert model.slot_bytes(100) == 2 * 2 * model.layers * model.key_value_heads * head_size * 100


def test_slots_that_fit_are_opened(model: ModelFile) -> None:
    plan = plan_slots(model, 1000, 4, RESERVE_BYTES + 4 * model.slot_bytes(1000))
    assert plan.slots == 4


def test_slots_that_do_not_fit_are_not_opened_and_a_warning_says_so(
    model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_slots(model, 1000, 4, RESERVE_BYTES + 2 * model.slot_bytes(1000))
    assert plan.slots == 2
    assert "2 cache slots, not 4" in caplog.text


def test_one_slot_may_use_the_memory_that_is_reserved(model: ModelFile) -> None:
    assert plan_slots(model, 1000, 4, 2 * model.slot_bytes(1000)).slots == 1


def test_a_context_that_does_not_fit_is_refused(model: ModelFile) -> None:
    with pytest.raises(LoadError, match="GLM_MAX_LENGTH"):
        plan_slots(model, 1000, 1, model.slot_bytes(1000) - 1)


def test_nothing_is_refused_while_the_free_memory_is_unknown(model: ModelFile) -> None:
    assert plan_slots(model, 1000, 4, None).slots == 4


def test_memory_bounds_the_tokens_of_one_call(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glm_api.pipeline.worker.memory.available_bytes", lambda: 2**30)
    longest = longest_batch(model)
    assert 8 * model.attention_heads * longest**2 <= 2**30 // 4
    assert 8 * model.attention_heads * (longest + 1) ** 2 > 2**30 // 4
