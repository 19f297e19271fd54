"""A prompt goes to the free slot that holds its beginning, and leaves other chats' caches alone."""

from __future__ import annotations

from glm_api.pipeline.worker.llama_cpp.slots import SlotPool


def use(pool: SlotPool, prompt: list[int]) -> int:
    slot = pool.take(prompt)
    assert slot is not None
    pool.give_back(slot, prompt)
    return slot.index


def test_a_prompt_goes_to_the_slot_with_its_beginning() -> None:
    pool = SlotPool(2)
    first, second = use(pool, [1, 2, 3]), use(pool, [7, 8, 9])
    assert first != second
    assert use(pool, [1, 2, 3, 4]) == first
    assert use(pool, [7, 8, 9, 4]) == second


def test_a_short_overlap_does_not_overwrite_a_long_cache() -> None:
    pool = SlotPool(2)
    long = use(pool, [1, 2, *range(100, 120)])
    assert use(pool, [1, 2, 5]) != long


def test_the_least_recently_used_slot_makes_way() -> None:
    pool = SlotPool(2)
    first, second = use(pool, [1] * 8), use(pool, [2] * 8)
    use(pool, [1] * 8)
    assert use(pool, [3] * 8) == second
    assert use(pool, [4] * 8) == first


def test_a_slot_works_on_one_prompt_at_a_time() -> None:
    pool = SlotPool(2)
    first, second = pool.take([1, 2, 3]), pool.take([1, 2, 3])
    assert first is not None
    assert second is not None
    assert first.index != second.index
    assert pool.take([1, 2, 3]) is None
    pool.give_back(second, [])
    third = pool.take([1, 2, 3])
    assert third is second
