"""Time from the start of the command until the server is ready, with the model's file in the page cache."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.figures import figure

RUNS = 3


def measure(bench: Bench) -> dict[str, Any]:
    """Return the seconds until each side is ready.

    This server: until the first 200 from GET /health. Original server: from GET /v1/models. Bare loop: until the model
    is open.
    """
    seconds: dict[str, list[float]] = {"bare": [], "server": [], "original": []}
    for run in range(bench.runs(RUNS)):
        bench.say(f"start-up, run {run + 1}")
        with bench.bare_loop() as bare:
            seconds["bare"].append(bare.start_seconds)
        with bench.this_server() as server:
            seconds["server"].append(server.start_seconds)
        with bench.original_server() as original:
            seconds["original"].append(original.start_seconds)
    return {side: figure(values) for side, values in seconds.items()}
