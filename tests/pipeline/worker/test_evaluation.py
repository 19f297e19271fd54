"""When a prompt is read in one call, and when token by token."""

from __future__ import annotations

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.worker.evaluation import Evaluator, Plan


def evaluator(mode: str = "auto", longest: int = 1000, step: float = 0.0, batch: float = 0.0) -> Evaluator:
    made = Evaluator(mode, longest, whole_prompts=False)  # type: ignore[arg-type]
    if step:
        made.rates.note_step(step)
    if batch:
        made.rates.note_batch(1, batch)
    return made


@pytest.mark.parametrize(
    ("made", "total", "cached", "batch"),
    [
        # Not measured yet: a prompt without a cached prefix is read in one call, one with continues it.
        (evaluator(), 100, 0, 100),
        (evaluator(), 100, 50, 0),
        # A batch hardly faster than steps is not worth being deaf for.
        (evaluator(step=10, batch=9.5), 100, 0, 0),
        # With many cores it is.
        (evaluator(step=10, batch=1), 100, 0, 100),
        # So much that even a cached prefix is read again, unless little is left to read.
        (evaluator(step=10, batch=1), 100, 50, 100),
        (evaluator(step=10, batch=1), 100, 95, 0),
        # Memory bounds a batch; the rest is read token by token.
        (evaluator(longest=60, step=10, batch=1), 100, 0, 60),
        (evaluator("step", step=10, batch=1), 100, 0, 0),
        (evaluator("batch", step=10, batch=9.5), 100, 50, 100),
        (evaluator("batch"), 100, 99, 0),
        (evaluator("batch"), 1, 0, 0),
    ],
)
def test_the_cheaper_way_is_chosen(made: Evaluator, total: int, cached: int, batch: int) -> None:
    assert made.plan(total, cached).batch == batch


def test_how_long_the_process_will_be_deaf_is_estimated() -> None:
    assert evaluator("batch", batch=2).plan(100, 0) == Plan(100, 200.0)


def test_a_family_that_reuses_nothing_reads_whole_prompts() -> None:
    made = Evaluator("step", 10, whole_prompts=True)
    assert made.plan(100, 0).batch == 100


@pytest.mark.parametrize(
    ("made", "batch"),
    [
        # As much as memory admits goes with the image, or only what must, for those who want to be interruptible.
        (evaluator(), 100),
        (evaluator(step=10, batch=9.5), 100),
        (evaluator(longest=60), 60),
        (evaluator("step"), 30),
    ],
)
def test_an_image_is_read_in_one_call(made: Evaluator, batch: int) -> None:
    assert made.plan(100, 0, least=30).batch == batch
    # It is not read again when the slot holds it.
    assert made.plan(100, 99, least=30).batch == 0


def test_an_image_that_memory_does_not_admit_is_refused() -> None:
    with pytest.raises(PromptError, match=r"30 tokens.*20 at once"):
        evaluator(longest=20).plan(100, 0, least=30)
