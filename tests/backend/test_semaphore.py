"""The queue in front of a backend: order, bounds, and places that are given back once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.backend.semaphore import FairSemaphore, Full


def test_the_first_item_has_its_turn_at_once() -> None:
    served: list[int] = []
    semaphore = FairSemaphore(served.append)
    semaphore.enter(0)
    assert served == [0]
    assert semaphore.position(0) == 0
    assert semaphore.held == 1


def test_items_are_served_in_the_order_in_which_they_came() -> None:
    served: list[int] = []
    semaphore = FairSemaphore(served.append)
    for item in range(5):
        semaphore.enter(item)
    assert semaphore.positions() == [(item, item) for item in range(5)]
    assert [semaphore.position(item) for item in range(6)] == [0, 1, 2, 3, 4, None]
    assert all(semaphore.leave(item) for item in range(5))
    assert served == [0, 1, 2, 3, 4]
    assert not semaphore.held


def test_one_more_than_the_queue_holds_is_refused() -> None:
    served: list[int] = []
    semaphore = FairSemaphore(served.append, max_waiting=2)
    for item in range(3):
        semaphore.enter(item)
    with pytest.raises(Full):
        semaphore.enter(3)
    assert semaphore.waiting == 2


def test_leaving_twice_gives_the_turn_to_one_item_only() -> None:
    served: list[int] = []
    semaphore = FairSemaphore(served.append)
    for item in range(3):
        semaphore.enter(item)
    assert semaphore.leave(0)
    assert not semaphore.leave(0)
    assert served == [0, 1]
    assert semaphore.position(1) == 0


def test_as_many_as_there_are_places_have_their_turn() -> None:
    served: list[int] = []
    semaphore = FairSemaphore(served.append, places=2)
    for item in range(4):
        semaphore.enter(item)
    assert semaphore.positions() == [(0, 0), (0, 1), (1, 2), (2, 3)]
    semaphore.leave(1)
    assert semaphore.positions() == [(0, 0), (0, 2), (1, 3)]
    # One that only waited has no turn to give.
    assert not semaphore.leave(3)
    assert served == [0, 1, 2]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_whatever_comes_and_goes_one_has_the_turn_and_nobody_overtakes(steps: list[tuple[bool, int]]) -> None:
    served: list[int] = []
    semaphore = FairSemaphore(served.append, max_waiting=4)
    inside: list[int] = []
    for item, (comes, which) in enumerate(steps):
        if comes:
            try:
                semaphore.enter(item)
                inside.append(item)
            except Full:
                assert len(inside) == 5
        elif inside:
            semaphore.leave(inside.pop(which % len(inside)))
        # `inside` is in order of arrival: the oldest has the turn, the others wait behind it in that order.
        assert semaphore.positions() == list(enumerate(inside))
        assert not inside or served[-1] == inside[0]
    assert served == sorted(served)
