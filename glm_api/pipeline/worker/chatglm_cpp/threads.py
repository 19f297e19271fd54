"""Choose the number of threads for each evaluation, by what evaluations take.

ggml's threads spin while they wait for one another. One thread more than there are free CPUs makes a model many times
slower, and how many are free changes while other programs come and go. So the number is tried, not calculated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# The newest evaluation counts this much in the estimate of what one takes.
SMOOTHING = 0.2
# An evaluation this many times as long as expected is slow; so many in a row are a reason to try fewer threads.
SLOW = 1.5
SLOW_IN_A_ROW = 3
# Evaluations of a trial, and how much better it must be to win.
TRIAL = 4
BETTER = 0.97
# An evaluation that takes this many times as long is given up, and done again with half of the threads.
LATE = 4.0
# Seconds between trials: after one that was won, and at most; each that is lost doubles them.
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 120.0


class ThreadChooser:
    """The number of threads for one kind of evaluation, from 1 to ``most``. ``count`` is the one to use next.

    It begins with ``most``, and tries half of that, a quarter and so on down to 1 at once, as it does whenever
    evaluations have become slow. While all is well it tries a neighbour of the number now and then.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = most
        self.longest: float | None = None
        """The seconds that an evaluation takes at most, until one has been measured; None: unknown."""
        self._most = most
        self._clock = clock
        self.home = most
        """The number that has proved best; ``count`` differs from it in a trial."""
        self.expected: float | None = None
        """The seconds that an evaluation takes with that number; None before the first."""
        self._slow = 0
        # The numbers to try next, and what evaluations with the one that is tried now took.
        self._candidates: list[int] = []
        self._trial: list[float] = []
        self._pause = FIRST_PAUSE
        self._next_trial = 0.0
        self._turn = 0

    @property
    def settled(self) -> bool:
        """Whether evaluations have been measured where there is a choice, and no other number is being tried."""
        return self._most == 1 or (self.expected is not None and self.count == self.home)

    @property
    def limit(self) -> float:
        """The seconds after which to give up an evaluation with ``count`` threads; 0: never."""
        if self.count == 1:
            return 0.0
        if self.count != self.home:
            return SLOW * (self.expected or 0.0)
        return LATE * (self.expected or self.longest or 0.0)

    def note_late(self) -> None:
        """An evaluation with ``count`` threads was given up after `limit`."""
        if self.count != self.home:
            self._end_trial(won=False)
            return
        # Half of the threads take twice as long, if they have CPUs of their own.
        self.longest = 2 * (self.expected or self.longest or 0.0)
        self.expected = None
        self.home = self.count = self.home // 2

    def note(self, seconds: float) -> None:
        """An evaluation with ``count`` threads took ``seconds``."""
        if self._most == 1:
            return
        if self.count != self.home:
            self._note_trial(seconds)
            return
        expected = self.expected
        if expected is None:
            self.expected = seconds
            self._try(_halves(self.home))
            return
        self.expected = expected + SMOOTHING * (seconds - expected)
        self._slow = self._slow + 1 if seconds > SLOW * expected else 0
        if self._slow >= SLOW_IN_A_ROW:
            self._slow = 0
            self.expected = seconds
            self._try(_halves(self.home))
        elif self._clock() >= self._next_trial:
            self._try([self._neighbour()])

    def _neighbour(self) -> int:
        """The next number to try: twice as many, one more and one fewer in turn."""
        self._turn += 1
        wanted = (2 * self.home, self.home + 1, self.home - 1)[self._turn % 3]
        wanted = max(1, min(wanted, self._most))
        return wanted if wanted != self.home else self.home + (1 if self.home == 1 else -1)

    def _try(self, candidates: list[int]) -> None:
        """Use the first of ``candidates`` next, or go home if there is none left."""
        self._candidates = candidates[1:]
        self._trial = []
        self.count = candidates[0] if candidates else self.home
        if not candidates:
            self._next_trial = self._clock() + self._pause

    def _note_trial(self, seconds: float) -> None:
        assert self.expected is not None
        self._trial.append(seconds)
        if seconds > SLOW * self.expected:
            self._end_trial(won=False)
        elif len(self._trial) == TRIAL:
            self._end_trial(won=self._middle() < BETTER * self.expected)

    def _end_trial(self, won: bool) -> None:
        if won:
            self.home, self.expected, self._pause = self.count, self._middle(), FIRST_PAUSE
        elif not self._candidates:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._try(self._candidates)

    def _middle(self) -> float:
        return sorted(self._trial)[len(self._trial) // 2]


def _halves(count: int) -> list[int]:
    """Return half of ``count``, a quarter and so on, down to 1."""
    return [count >> shift for shift in range(1, count.bit_length())]
