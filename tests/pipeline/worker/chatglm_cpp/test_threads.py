"""The number of threads follows what evaluations take, on machines that are played here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from glm_api.pipeline.worker.chatglm_cpp.threads import ThreadChooser


@dataclass
class Machine:
    """``cpus``, of which others keep ``busy``; one thread alone takes ``seconds`` for an evaluation."""

    cpus: int
    busy: int = 0
    seconds: float = 0.01
    now: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def takes(self, threads: int) -> float:
        """What an evaluation takes: threads that spin against others are fifty times slower."""
        fits = threads + self.busy <= self.cpus or threads == 1
        shared = 2.0 if self.busy >= self.cpus else 1.0
        return self.seconds / threads * shared * (1 if fits else 50) * self.chance.uniform(0.95, 1.1)

    def run(self, chooser: ThreadChooser, seconds: float) -> tuple[float, int]:
        """Evaluate for ``seconds``; the part of them that the best number would take, and how many evaluations."""
        until, count, best = self.now + seconds, 0, 0.0
        while self.now < until:
            took, limit = self.takes(chooser.count), chooser.limit
            if 0 < limit < took:
                self.now += limit
                chooser.note_late()
                continue
            self.now += took
            chooser.note(took)
            best += min(self.takes(threads) for threads in range(1, self.cpus + 1))
            count += 1
        return best / seconds, count


def chooser_on(machine: Machine, most: int | None = None) -> ThreadChooser:
    return ThreadChooser(most or machine.cpus, lambda: machine.now)


@pytest.mark.parametrize("cpus", [1, 2, 4, 8])
def test_an_idle_machine_is_used_whole(cpus: int) -> None:
    machine = Machine(cpus)
    efficiency, _ = machine.run(chooser_on(machine), 60)
    assert efficiency > 0.95


@pytest.mark.parametrize(("cpus", "busy"), [(2, 1), (2, 2), (4, 1), (4, 3), (8, 6)])
def test_a_busy_machine_is_left_to_the_others(cpus: int, busy: int) -> None:
    machine = Machine(cpus, busy)
    chooser = chooser_on(machine)
    machine.run(chooser, 60)
    efficiency, _ = machine.run(chooser, 300)
    assert efficiency > 0.9


def test_the_number_falls_when_others_come_and_rises_when_they_go() -> None:
    machine = Machine(4)
    chooser = chooser_on(machine)
    machine.run(chooser, 30)
    assert chooser.count == 4
    machine.busy = 2
    machine.run(chooser, 60)
    assert chooser.count == 2
    machine.busy = 0
    machine.run(chooser, 600)
    assert chooser.count == 4


@pytest.mark.parametrize("cpus", [2, 4, 8])
def test_an_evaluation_that_others_slow_down_is_given_up_and_done_with_fewer_threads(cpus: int) -> None:
    machine = Machine(cpus)
    chooser = chooser_on(machine)
    machine.run(chooser, 30)
    machine.busy = cpus - 1
    began = machine.now
    while chooser.count > 1:
        machine.run(chooser, 1e-6)
    # One thread is the best then; with all of them an evaluation takes fifty times as long as before.
    assert machine.now - began < 4 * machine.seconds
    machine.run(chooser, 1)
    assert chooser.home == 1


def test_one_thread_is_never_given_up() -> None:
    chooser = ThreadChooser(2)
    for _ in range(10):
        chooser.note(0.01)
    assert chooser.count == 2
    assert chooser.limit > 0
    chooser.note_late()
    assert (chooser.count, chooser.limit) == (1, 0.0)


def test_it_is_never_more_than_the_most() -> None:
    machine = Machine(8)
    chooser = chooser_on(machine, most=3)
    for _ in range(2000):
        machine.run(chooser, 0.01)
        assert 1 <= chooser.count <= 3
