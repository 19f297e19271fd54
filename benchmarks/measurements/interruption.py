"""How long a prompt that is evaluated in one call goes on after its client has left, as a fraction of the call's time.

It is measured from outside, as in `freeing`.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench, passage, user
from benchmarks.figures import figure
from benchmarks.measurements.freeing import leave
from benchmarks.sides import HttpServer

RUNS = 5
ORIGINAL_RUNS = 2
PROMPT_CHARACTERS = {"small": 1000, "medium": 300, "full": 96}
# The client leaves at these parts of the time of the call, which is not the same each time.
EARLIEST, LATEST = 0.15, 0.55


def measure(bench: Bench) -> dict[str, Any]:
    """Return the seconds of a whole call, and the ms until the pipeline is free when the client leaves during one."""
    with bench.this_server({"GLM_PREFILL": "batch"}) as server:
        found = _measure(bench, server, bench.runs(RUNS))
    with bench.original_server() as original:
        theirs = _measure(bench, original, bench.runs(ORIGINAL_RUNS))
    return {"prompt_tokens": PROMPT_CHARACTERS[bench.shape] + 8, "server": found, "original": theirs}


def _measure(bench: Bench, side: HttpServer, runs: int) -> dict[str, Any]:
    whole: list[float] = []
    freed: list[float] = []
    for run in range(runs):
        bench.say(f"interruption, run {run + 1}: {side.name}")
        if run < 2:
            exchange = bench.client.ask(side.port, _request(bench, side, 2 * run))
            exchange.texts()
            whole.append(exchange.total)
        first = bench.client.send(side.port, _request(bench, side, 2 * run + 1))
        part = EARLIEST + (LATEST - EARLIEST) * run / max(1, runs - 1)
        freed.append(leave(bench, side, first, part * min(whole)))
    seconds = figure(whole)
    return {
        "whole_seconds": seconds,
        "free_ms": figure([1000 * value for value in freed]),
        "fraction": figure([value / seconds["median"] for value in freed]),
    }


def _request(bench: Bench, side: HttpServer, variant: int) -> bytes:
    characters = PROMPT_CHARACTERS[bench.shape]
    return side.chat(user(passage(characters, variant + 7)), characters + 8, 1)
