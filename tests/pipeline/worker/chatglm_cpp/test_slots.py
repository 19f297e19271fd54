"""Which cache slot a prompt gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.worker.chatglm_cpp.slots import SlotPool
from glm_api.pipeline.worker.prefix import common_prefix

ids = st.lists(st.integers(0, 2), max_size=30)


def pool(size: int) -> SlotPool[object]:
    return SlotPool(size, object, object())


def fill(slots: SlotPool[object], prompt: list[int]) -> int:
    """Evaluate ``prompt`` in the slot that is chosen for it; return the index of the slot."""
    slot, shared = slots.choose(prompt)
    slot.cached_ids[shared:] = prompt[shared:]
    return slot.index


@given(ids, ids)
def test_the_common_prefix_ends_where_the_ids_first_differ(left: list[int], right: list[int]) -> None:
    expected = 0
    while expected < min(len(left), len(right)) and left[expected] == right[expected]:
        expected += 1
    assert common_prefix(left, right) == expected


def test_the_next_turn_of_a_chat_continues_its_slot() -> None:
    slots = pool(4)
    fill(slots, [1, 2, 3, 4])
    slot, shared = slots.choose([1, 2, 3, 4, 5, 6])
    assert (slot.index, shared) == (0, 4)


def test_one_token_is_always_left_to_evaluate() -> None:
    slots = pool(4)
    fill(slots, [1, 2, 3])
    assert slots.choose([1, 2, 3])[1] == 2
    assert slots.choose([1, 2])[1] == 1


def test_chats_that_alternate_keep_their_slots() -> None:
    slots = pool(2)
    first, second = [1, *[7] * 20], [1, *[8] * 20]
    assert [fill(slots, first), fill(slots, second)] == [0, 1]
    assert slots.choose([*first, 9])[1] == len(first)
    assert slots.choose([*second, 9])[1] == len(second)


def test_a_new_chat_takes_the_slot_that_was_used_longest_ago() -> None:
    slots = pool(2)
    fill(slots, [1, *[7] * 20])
    fill(slots, [1, *[8] * 20])
    fill(slots, [1, *[7] * 20, 5])
    assert fill(slots, [1, *[9] * 20]) == 1


def test_the_cache_before_an_edited_message_is_kept() -> None:
    slots = pool(2)
    fill(slots, [1, 2, 3, 4, 5, 6, 7, 8])
    slot, shared = slots.choose([1, 2, 3, 4, 5, 9, 9])
    assert (slot.index, shared) == (0, 5)
