"""Tokens a second with the default number of threads: on an idle machine, and beside programs that use all CPUs.

ggml's threads spin while they wait for one another, so one thread more than there are free CPUs makes the model many
times slower. Both servers are started without a number of threads, the bare loop with several.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.bench import STORIES, Bench, user
from benchmarks.busy import busy_loops
from benchmarks.client import get
from benchmarks.figures import Figure, figure
from benchmarks.measurements.speed import ask
from benchmarks.sides import BareLoop, HttpServer, Messages
from glm_api.pipeline.cpus import usable_cpus

# A server keeps what it has learnt of the machine until its end, so several are started.
STARTS = 3
RUNS = 4
# With too many threads an answer of many tokens would take minutes.
SHORT = 16

# The tokens a second of each side in one run, and the number of threads that this server has chosen.
Run = dict[str, float]


def measure(bench: Bench) -> dict[str, Any]:
    """Return the tokens a second of each side, their ratios to the bare loop, and the threads of this server.

    Idle, that is the bare loop with its best number of threads; beside busy loops, the one with one thread.
    """
    cpus = usable_cpus()
    counts = sorted({cpus, *(1 << power for power in range(cpus.bit_length()))})
    idle: list[Run] = []
    busy: list[Run] = []
    short: list[Run] = []
    for start in range(bench.runs(STARTS)):
        bench.say(f"threads, start {start + 1}")
        with ExitStack() as stack:
            sides = _Sides(bench, stack, counts)
            idle += sides.repeat(f"threads, start {start + 1}: idle", sides.idle)
            with busy_loops(cpus):
                busy += sides.repeat(f"threads, start {start + 1}: beside busy loops", sides.busy)
                bench.say(f"threads, start {start + 1}: beside busy loops, all threads")
                short.append(sides.short())
    best = max(map(str, counts), key=lambda count: _figure(idle, count)["median"])
    return {
        "cpus": cpus,
        "best_threads": int(best),
        "idle": {name: _figure(idle, name) for name in idle[0]},
        "idle_ratio": {name: _figure(idle, name, best) for name in ("server", "original")},
        "busy": {name: _figure(busy, name) for name in busy[0]},
        "busy_ratio": {
            "server": _figure(busy, "server", "1"),
            "bare_all": _figure(short, "bare_all", "1"),
            "original": _figure(short, "original", "1"),
        },
    }


class _Sides:
    """The bare loop once for each of ``counts``, numbers of threads, and the servers with their defaults."""

    def __init__(self, bench: Bench, stack: ExitStack, counts: list[int]) -> None:
        self._bench = bench
        self._bare = {count: stack.enter_context(bench.bare_loop(count)) for count in counts}
        self._server = stack.enter_context(bench.this_server(default_threads=True))
        self._original = stack.enter_context(bench.original_server(counts[-1]))
        self._all = counts[-1]
        self._questions = bench.questions(0)

    def repeat(self, what: str, measure: Callable[[], Run]) -> list[Run]:
        """Return the results of ``measure``, without the first, which warms the sides up."""
        runs = []
        for run in range(self._bench.runs(RUNS) + 1):
            self._bench.say(f"{what}, run {run}")
            runs.append(measure())
        return runs[1:]

    def idle(self) -> Run:
        found: Run = {}
        for count, bare in self._bare.items():
            found[str(count)], answers = self._bare_rate(bare, self._questions)
        found["server"] = self._rate(self._server, self._questions, answers)
        found["original"] = self._rate(self._original, self._questions, answers)
        return {**found, "threads": self._threads()}

    def busy(self) -> Run:
        rate, answers = self._bare_rate(self._bare[1], self._questions)
        server = self._rate(self._server, self._questions, answers)
        return {"1": rate, "server": server, "threads": self._threads()}

    def short(self) -> Run:
        """Ask those with too many threads for one short answer, and the bare loop with one thread for comparison."""
        question = [user(STORIES[0])]
        one, answers = self._bare_rate(self._bare[1], question, SHORT)
        every, _ = self._bare_rate(self._bare[self._all], question, SHORT)
        return {"1": one, "bare_all": every, "original": self._rate(self._original, question, answers, SHORT)}

    def _bare_rate(
        self, bare: BareLoop, questions: list[Messages], max_tokens: int | None = None
    ) -> tuple[float, list[dict[str, Any]]]:
        answers = [bare.answer(messages, max_tokens or self._bench.answer_tokens) for messages in questions]
        return sum(answer["tokens"] for answer in answers) / sum(answer["total"] for answer in answers), answers

    def _rate(
        self,
        side: HttpServer,
        questions: list[Messages],
        answers: list[dict[str, Any]],
        max_tokens: int | None = None,
    ) -> float:
        seconds = ask(self._bench, side, questions, answers, max_tokens or self._bench.answer_tokens)
        return float(sum(answer["tokens"] for answer in answers)) / seconds

    def _threads(self) -> float:
        """Return the number of threads with which this server evaluates a token now."""
        return float(self._bench.client.ask(self._server.port, get("/props")).json()["threads"]["step"])


def _figure(runs: list[Run], name: str, other: str | None = None) -> Figure:
    """Return the figure of ``name``, or of its ratios to ``other``, over all runs."""
    return figure([run[name] / (1.0 if other is None else run[other]) for run in runs])
