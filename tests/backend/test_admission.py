"""The state of a request: who may end it, what its consumer sees, and that its place is given back exactly once."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from glm_api.backend.admission import Admission, QueuedRequest, RequestStatus
from glm_api.backend.errors import (
    BackendError,
    ClientGone,
    DeadlineExceeded,
    EngineError,
    Interrupted,
    QueueFull,
    ShuttingDown,
)
from glm_api.backend.semaphore import FairSemaphore
from tests.support.processes import PATIENCE

WAITING, RUNNING, FINISHED = RequestStatus


class Request(QueuedRequest[str]):
    """A request to a `Backend`."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.admission)
        self._backend = backend

    def _on_turn(self) -> None:
        self._backend.take(self)

    def _stop_work(self) -> None:
        self._backend.told_to_stop.append(self)
        if self._backend.stops_at_once:
            self.finish()


class Backend:
    """A backend that says and does what a test wants: what it has ``begun`` ends when the test says so.

    ``stops_at_once``: it gives a place back as soon as it is told to stop, as the upstream does.
    """

    def __init__(
        self,
        *,
        queue_size: int = 64,
        places: int = 1,
        queue_timeout: float = PATIENCE,
        request_timeout: float = PATIENCE,
        ready: bool = True,
        stops_at_once: bool = False,
    ) -> None:
        self.semaphore: FairSemaphore[Request] = FairSemaphore(Request.take_turn, queue_size, places)
        self.admission = Admission(self.semaphore, queue_timeout, request_timeout, assumed_duration=10.0)
        self.ready = ready
        self.stops_at_once = stops_at_once
        self.begun: list[Request] = []
        self.told_to_stop: list[Request] = []

    def take(self, request: Request) -> None:
        if self.ready and request.begin():
            self.begun.append(request)

    def become_ready(self) -> None:
        self.ready = True
        for request in self.admission.with_turn():
            self.take(request)

    def enter(self) -> Request:
        request = Request(self)
        self.admission.enter(request)
        return request


def seen(request: Request) -> list[str]:
    """All events that the consumer of ``request`` sees."""
    return [event for events in request.events() for event in events]


# --- one request after the other ---


def test_a_request_waits_and_runs_and_finishes() -> None:
    backend = Backend()
    first, second = backend.enter(), backend.enter()
    assert [request.status for request in (first, second)] == [RUNNING, WAITING]
    first.put("a")
    first.finish()
    assert [request.status for request in (first, second)] == [FINISHED, RUNNING]
    assert seen(first) == ["a"]
    second.finish()
    assert seen(second) == []
    assert backend.semaphore.positions() == []


def test_a_request_whose_turn_it_is_waits_for_a_backend_that_is_not_ready() -> None:
    backend = Backend(ready=False)
    first, second = backend.enter(), backend.enter()
    assert [request.status for request in (first, second)] == [WAITING, WAITING]
    assert first.turn_at is not None
    assert second.turn_at is None
    backend.become_ready()
    assert backend.begun == [first]
    # It has begun, so it cannot begin again.
    backend.become_ready()
    assert backend.begun == [first]


def test_a_backend_that_becomes_ready_does_not_take_a_request_before_it_is_told_of_its_turn() -> None:
    backend = Backend()

    def on_turn(request: Request) -> None:
        backend.become_ready()
        assert request.status is WAITING
        request.take_turn()

    backend.semaphore = FairSemaphore(on_turn)
    backend.admission = Admission(backend.semaphore, PATIENCE, PATIENCE, 10.0)
    request = backend.enter()
    assert backend.begun == [request]
    assert request.turn_at is not None


def test_the_time_in_the_queue_ends_when_the_backend_begins() -> None:
    backend = Backend(ready=False)
    first, second = backend.enter(), backend.enter()
    # It has its turn, but the backend restarts.
    so_far = first.queue_ms
    assert first.queue_ms > so_far
    backend.become_ready()
    waited = first.queue_ms
    so_far = second.queue_ms
    assert second.queue_ms > so_far
    assert first.queue_ms == waited


# --- events ---


def test_events_that_are_ready_together_come_together() -> None:
    backend = Backend()
    request = backend.enter()
    events = request.events()
    request.put("a")
    request.put("b")
    assert next(events) == ["a", "b"]
    request.put("c")
    request.finish()
    assert list(events) == [["c"]]


def test_a_silence_is_an_empty_list() -> None:
    backend = Backend()
    request = backend.enter()
    events = request.events(silence=0.01)
    assert next(events) == []
    request.put("a")
    assert next(events) == ["a"]
    assert next(events) == []


def test_a_failure_comes_after_what_came_before_it() -> None:
    backend = Backend()
    request = backend.enter()
    request.put("a")
    request.finish(EngineError("died"))
    request.put("b")
    events = request.events()
    assert next(events) == ["a"]
    with pytest.raises(EngineError):
        next(events)


def test_events_may_be_read_after_the_place_was_given_back() -> None:
    backend = Backend()
    request = backend.enter()
    for _ in range(1000):
        request.put("a")
    request.finish()
    assert backend.semaphore.held == 0
    assert len(seen(request)) == 1000


def test_waiting_too_long_ends_a_request_that_waits() -> None:
    backend = Backend(queue_timeout=0.01)
    _, waiting = backend.enter(), backend.enter()
    with pytest.raises(DeadlineExceeded, match=r"waited 0\.01 seconds"):
        seen(waiting)
    assert backend.semaphore.waiting == 0


def test_a_request_that_runs_may_take_longer_than_it_may_wait() -> None:
    backend = Backend(queue_timeout=0.01, request_timeout=0.1)
    request = backend.enter()
    with pytest.raises(DeadlineExceeded, match=r"longer than the 0\.1 seconds"):
        seen(request)
    assert backend.told_to_stop == [request]


# --- ending it early ---


@dataclass(frozen=True)
class Ending:
    """A way to end a request early, and what its consumer sees of it."""

    end: Callable[[Request], None]
    raised: type[BackendError] | None


ENDINGS = {
    "close": Ending(Request.close, None),
    "cancel": Ending(Request.cancel, ClientGone),
    "fail": Ending(lambda request: request.fail(EngineError("lost")), EngineError),
}


@pytest.fixture(params=ENDINGS)
def ending(request: pytest.FixtureRequest) -> Ending:
    return ENDINGS[request.param]


def test_a_request_that_waits_gives_its_place_back_at_once(ending: Ending) -> None:
    backend = Backend()
    _, waiting, last = (backend.enter() for _ in range(3))
    ending.end(waiting)
    assert waiting.status is FINISHED
    assert backend.admission.waiting() == [(1, last)]
    assert backend.told_to_stop == []


def test_a_request_whose_turn_it_is_gives_it_to_the_next_if_the_backend_has_not_begun(ending: Ending) -> None:
    backend = Backend(ready=False)
    first, second = backend.enter(), backend.enter()
    ending.end(first)
    backend.become_ready()
    assert backend.begun == [second]
    assert backend.told_to_stop == []


def test_a_request_that_runs_keeps_its_place_until_the_backend_has_stopped(ending: Ending) -> None:
    backend = Backend()
    running, waiting = backend.enter(), backend.enter()
    ending.end(running)
    assert backend.told_to_stop == [running]
    assert backend.begun == [running]
    running.put("too late")
    running.finish()
    assert backend.begun == [running, waiting]
    if ending.raised is not None:
        with pytest.raises(ending.raised):
            seen(running)


def test_the_backend_is_told_to_stop_once(ending: Ending) -> None:
    backend = Backend()
    request = backend.enter()
    ending.end(request)
    for other in ENDINGS.values():
        other.end(request)
    assert backend.told_to_stop == [request]
    if ending.raised is not None:
        with pytest.raises(ending.raised):
            seen(request)


def test_nobody_is_told_to_stop_what_has_ended(ending: Ending) -> None:
    backend = Backend()
    request = backend.enter()
    request.finish()
    ending.end(request)
    assert backend.told_to_stop == []
    assert seen(request) == []


def test_a_request_that_is_closed_while_it_is_told_of_its_turn_has_none(ending: Ending) -> None:
    backend = Backend()
    closed: list[Request] = []

    def on_turn(request: Request) -> None:
        if not closed:
            closed.append(request)
            ending.end(request)
        request.take_turn()

    backend.semaphore = FairSemaphore(on_turn)
    backend.admission = Admission(backend.semaphore, PATIENCE, PATIENCE, 10.0)
    first, second = backend.enter(), backend.enter()
    assert closed == [first]
    assert first.turn_at is None
    assert backend.begun == [second]
    assert backend.semaphore.positions() == [(0, second)]


# --- admission ---


def test_a_full_queue_tells_when_to_come_back() -> None:
    backend = Backend(queue_size=1, places=2)
    for _ in range(3):
        backend.enter()
    with pytest.raises(QueueFull) as refused:
        backend.enter()
    assert "the queue is full: 1 request waits already." in refused.value.message
    # Two are before it, both places serve them, and each takes 10 seconds for all that is known.
    assert refused.value.retry_after == 10


def test_the_estimate_follows_the_requests_that_ran() -> None:
    backend = Backend()
    for _ in range(5):
        backend.enter().finish()
    estimate = backend.admission.estimated_wait(1)
    assert 10 * 0.8**5 <= estimate < 10
    running, waiting = backend.enter(), backend.enter()
    # One that only waited tells nothing of how long others will take.
    waiting.close()
    assert backend.admission.estimated_wait(1) == estimate
    running.close()
    running.finish()
    after = backend.admission.estimated_wait(1)
    assert after < estimate
    # It ended once.
    running.finish()
    assert backend.admission.estimated_wait(1) == after


def test_draining_refuses_and_goes_on() -> None:
    backend = Backend()
    running, waiting = backend.enter(), backend.enter()
    backend.admission.drain()
    with pytest.raises(ShuttingDown):
        backend.enter()
    running.finish()
    assert backend.begun == [running, waiting]


def test_stopping_interrupts_what_runs_and_begins_nothing_that_waits() -> None:
    backend = Backend(places=2, stops_at_once=True)
    requests = [backend.enter() for _ in range(5)]
    backend.admission.stop()
    for request in requests[:2]:
        with pytest.raises(Interrupted):
            seen(request)
    for request in requests[2:]:
        with pytest.raises(ShuttingDown):
            seen(request)
    assert backend.begun == requests[:2]
    assert backend.semaphore.positions() == []


def test_a_request_that_comes_while_the_backend_stops_is_told_so() -> None:
    class Late(FairSemaphore[Request]):
        def enter(self, item: Request) -> None:
            admission.stop()
            super().enter(item)

    backend = Backend(ready=False)
    backend.semaphore = Late(Request.take_turn)
    backend.admission = admission = Admission(backend.semaphore, PATIENCE, PATIENCE, 10.0)
    request = backend.enter()
    with pytest.raises(ShuttingDown):
        seen(request)
    assert backend.semaphore.positions() == []


def test_all_can_be_failed_without_any_having_its_turn() -> None:
    backend = Backend(ready=False)
    requests = [backend.enter() for _ in range(3)]
    backend.admission.fail_all(EngineError("no model"))
    for request in requests:
        with pytest.raises(EngineError):
            seen(request)
    assert [request.turn_at is not None for request in requests] == [True, False, False]
    # It refuses nobody who comes later.
    backend.become_ready()
    assert backend.enter().status is RUNNING


# --- in any order ---


@dataclass(eq=False)
class Known:
    """What a test knows of a request."""

    request: Request
    status: RequestStatus = WAITING
    told: list[str] = field(default_factory=list)
    raised: type[Exception] | None = None
    silent: bool = False


class AnyOrder(RuleBasedStateMachine):
    """Requests come, go, and are ended by all sides in any order; a model of two lists knows what must be."""

    requests = Bundle[Known]("requests")

    def __init__(self) -> None:
        super().__init__()
        self.backend = Backend(queue_size=3, places=2)
        self.holders: list[Known] = []
        self.queue: list[Known] = []
        self.all: list[Known] = []

    def with_turn(self) -> None:
        """As many as there are places have their turn; they run if the backend is ready."""
        while len(self.holders) < 2 and self.queue:
            self.holders.append(self.queue.pop(0))
        for known in self.holders:
            if self.backend.ready and known.status is WAITING:
                known.status = RUNNING

    @rule(target=requests)
    def enter(self) -> Known:
        known = Known(Request(self.backend))
        self.all.append(known)
        if len(self.queue) == 3:
            with pytest.raises(QueueFull):
                self.backend.admission.enter(known.request)
            # Whoever was refused may still close it.
            known.status, known.silent = FINISHED, True
            known.request.close()
        else:
            self.backend.admission.enter(known.request)
            self.queue.append(known)
            self.with_turn()
        return known

    @rule(known=requests)
    def put(self, known: Known) -> None:
        # What has not begun sends nothing; what comes late reaches nobody.
        if known.status is not WAITING:
            known.request.put("event")
        if known.status is RUNNING:
            known.told.append("event")

    @rule(known=requests, ending=st.sampled_from(sorted(ENDINGS)))
    def end_early(self, known: Known, ending: str) -> None:
        ENDINGS[ending].end(known.request)
        if known.status is FINISHED:
            return
        known.raised = ENDINGS[ending].raised
        known.silent = known.raised is None
        if known.status is WAITING:
            (self.holders if known in self.holders else self.queue).remove(known)
        known.status = FINISHED
        self.with_turn()

    @rule(known=requests, error=st.sampled_from([None, EngineError("died")]))
    def backend_has_stopped(self, known: Known, error: EngineError | None) -> None:
        if known.request not in self.backend.begun:
            return
        known.request.finish(error)
        if known.status is RUNNING:
            known.raised = None if error is None else EngineError
        known.status = FINISHED
        if known in self.holders:
            self.holders.remove(known)
        self.with_turn()

    @rule(known=requests)
    def nothing_begins_twice(self, known: Known) -> None:
        if known.status is not WAITING:
            assert not known.request.begin()

    @rule()
    def backend_goes_down(self) -> None:
        self.backend.ready = False

    @precondition(lambda self: not self.backend.ready)
    @rule()
    def backend_becomes_ready(self) -> None:
        self.backend.become_ready()
        self.with_turn()

    @invariant()
    def queue_and_statuses_are_those_of_the_model(self) -> None:
        expected = [*((0, known) for known in self.holders), *enumerate(self.queue, 1)]
        assert self.backend.semaphore.positions() == [(position, known.request) for position, known in expected]
        assert [known.request.status for known in self.all] == [known.status for known in self.all]
        assert len(set(self.backend.begun)) == len(self.backend.begun)

    def teardown(self) -> None:
        for known in self.all:
            known.request.close()
        for request in self.backend.begun:
            request.finish()
        self.backend.become_ready()
        assert self.backend.semaphore.positions() == []
        for known in self.all:
            if known.status is not FINISHED or known.silent:
                continue
            if known.raised is None:
                assert seen(known.request) == known.told
            else:
                events = known.request.events()
                if known.told:
                    assert next(events) == known.told
                with pytest.raises(known.raised):
                    next(events)


TestAnyOrder = AnyOrder.TestCase


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switches")
@pytest.mark.parametrize("seed", range(20))
def test_threads_that_end_requests_at_the_same_time_give_each_place_back_once(seed: int) -> None:
    rng = random.Random(seed)
    backend = Backend(places=rng.randint(1, 3), queue_size=1000)
    released: list[Request] = []
    entered: list[Request] = []

    class Counting(FairSemaphore[Request]):
        def leave(self, item: Request) -> bool:
            had_turn = super().leave(item)
            if had_turn:
                released.append(item)
            return had_turn

    backend.semaphore = Counting(Request.take_turn, 1000, backend.semaphore.places)
    backend.admission = Admission(backend.semaphore, PATIENCE, PATIENCE, 10.0)
    plans = [[rng.choice([*(ending.end for ending in ENDINGS.values()), None]) for _ in range(60)] for _ in range(4)]
    start = threading.Barrier(len(plans) + 1)
    over = threading.Event()

    def come_and_go(plan: list[Callable[[Request], None] | None]) -> None:
        start.wait()
        for end in plan:
            request = backend.enter()
            entered.append(request)
            if end is not None:
                end(request)

    def work() -> None:
        """What the backend has begun ends, in its own thread, whatever others do to it."""
        start.wait()
        done = 0
        while not (over.is_set() and done == len(backend.begun)):
            for request in backend.begun[done:]:
                request.put("event")
                request.finish()
                done += 1

    comers = [threading.Thread(target=come_and_go, args=(plan,)) for plan in plans]
    worker = threading.Thread(target=work)
    for thread in (*comers, worker):
        thread.start()
    for thread in comers:
        thread.join()
    over.set()
    worker.join()
    assert backend.semaphore.positions() == []
    assert all(request.status is FINISHED for request in entered)
    assert len(set(backend.begun)) == len(backend.begun)
    assert len(set(released)) == len(released)
    assert set(backend.begun) <= set(released)
