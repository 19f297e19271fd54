"""The queue in front of the pipeline: order, bounds, and places that are given back once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.backend.semaphore import FairSemaphore, Full, Ticket


def entered(semaphore: FairSemaphore, served: list[int], name: int) -> Ticket:
    ticket = semaphore.ticket(lambda: served.append(name))
    ticket.enter()
    return ticket


def test_the_first_ticket_has_its_turn_at_once() -> None:
    served: list[int] = []
    semaphore = FairSemaphore()
    ticket = entered(semaphore, served, 0)
    assert served == [0]
    assert ticket.position == 0
    assert semaphore.held


def test_tickets_are_served_in_the_order_in_which_they_came() -> None:
    served: list[int] = []
    semaphore = FairSemaphore()
    tickets = [entered(semaphore, served, name) for name in range(5)]
    assert [ticket.position for ticket in tickets] == [0, 1, 2, 3, 4]
    for ticket in tickets:
        ticket.leave()
    assert served == [0, 1, 2, 3, 4]
    assert not semaphore.held


def test_one_more_than_the_queue_holds_is_refused() -> None:
    semaphore = FairSemaphore(max_waiting=2)
    served: list[int] = []
    for name in range(3):
        entered(semaphore, served, name)
    with pytest.raises(Full):
        entered(semaphore, served, 3)
    assert semaphore.waiting == 2


def test_leaving_twice_gives_the_turn_to_one_ticket_only() -> None:
    served: list[int] = []
    semaphore = FairSemaphore()
    first, second, _third = (entered(semaphore, served, name) for name in range(3))
    first.leave()
    first.leave()
    assert served == [0, 1]
    assert second.position == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_whatever_comes_and_goes_one_has_the_turn_and_nobody_overtakes(steps: list[tuple[bool, int]]) -> None:
    semaphore = FairSemaphore(max_waiting=4)
    served: list[int] = []
    inside: list[tuple[int, Ticket]] = []
    for name, (comes, which) in enumerate(steps):
        if comes:
            try:
                inside.append((name, entered(semaphore, served, name)))
            except Full:
                assert len(inside) == 5
        elif inside:
            inside.pop(which % len(inside))[1].leave()
        # `inside` is in order of arrival: the oldest has the turn, the others wait behind it in that order.
        assert [ticket.position for _, ticket in inside] == list(range(len(inside)))
        assert not inside or served[-1] == inside[0][0]
    assert served == sorted(served)
