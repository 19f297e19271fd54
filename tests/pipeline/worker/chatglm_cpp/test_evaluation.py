"""Which prompts are evaluated in one call, and which token by token."""

from __future__ import annotations

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import PrefillMode
from glm_api.pipeline.worker.chatglm_cpp.evaluation import Evaluator


def evaluator(mode: PrefillMode = "auto", longest: int = 1000, step: float = 0.0, batch: float = 0.0) -> Evaluator:
    made = Evaluator(mode, longest, 1, 100, whole_prompts=False)
    if step:
        made.rates.note_step(step)
    if batch:
        made.rates.note_batch(1, batch)
    return made


@pytest.mark.parametrize(
    ("made", "total", "cached", "batch"),
    [
        # Before a measurement a prompt without a cached prefix is evaluated in one call, and one with it step by step.
        (evaluator(), 100, 0, 100),
        (evaluator(), 100, 50, 0),
        # A batch that is hardly faster than steps is not worth it: nothing is left of one that is interrupted.
        (evaluator(step=10, batch=9.5), 100, 0, 0),
        # With many cores it is much faster.
        (evaluator(step=10, batch=1), 100, 0, 100),
        # Then even a cached prefix is evaluated again, unless few other tokens are left.
        (evaluator(step=10, batch=1), 100, 50, 100),
        (evaluator(step=10, batch=1), 100, 95, 0),
        # Memory bounds a batch; the rest is evaluated step by step.
        (evaluator(longest=60, step=10, batch=1), 100, 0, 60),
        (evaluator("step", step=10, batch=1), 100, 0, 0),
        (evaluator("batch", step=10, batch=9.5), 100, 50, 100),
        (evaluator("batch"), 100, 99, 0),
        (evaluator("batch"), 1, 0, 0),
    ],
)
def test_the_cheaper_way_is_chosen(made: Evaluator, total: int, cached: int, batch: int) -> None:
    assert made.plan(total, cached) == batch


def test_a_family_that_reuses_no_prefix_evaluates_whole_prompts() -> None:
    made = Evaluator("step", 10, 1, 100, whole_prompts=True)
    assert made.plan(100, 0) == 100


@pytest.mark.parametrize(
    ("made", "batch"),
    [
        # As many tokens as memory admits are evaluated with the image; in step mode only as many as must be.
        (evaluator(), 100),
        (evaluator(step=10, batch=9.5), 100),
        (evaluator(longest=60), 60),
        (evaluator("step"), 30),
    ],
)
def test_an_image_is_evaluated_in_one_call(made: Evaluator, batch: int) -> None:
    assert made.plan(100, 0, least=30) == batch
    # It is not evaluated again when the slot holds it.
    assert made.plan(100, 99, least=30) == 0


def test_an_image_that_memory_does_not_admit_is_refused() -> None:
    with pytest.raises(PromptError, match=r"30 tokens.*20 at once"):
        evaluator(longest=20).plan(100, 0, least=30)
