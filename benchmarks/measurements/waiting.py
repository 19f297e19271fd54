"""Memory that a stream costs the web process while it waits for its turn."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from benchmarks.bench import Bench, passage, user
from benchmarks.figures import figure
from benchmarks.processes import resident_bytes
from benchmarks.sides import ThisServer

RUNS = 3
STREAMS = 200
# Before its first ping a stream waits in its view, after that in its generator.
PING_SECONDS = 1


def measure(bench: Bench) -> dict[str, Any]:
    """Return the bytes for each of `STREAMS` waiting streams: just admitted, and after the first ping."""
    admitted: list[float] = []
    pinged: list[float] = []
    for run in range(bench.runs(RUNS)):
        bench.say(f"waiting streams, run {run + 1}")
        with bench.this_server({"GLM_PING_INTERVAL": str(PING_SECONDS)}) as server:
            bench.client.ask(server.port, server.chat(user("你好"), 8, 4)).texts()
            before, first, second = _memory(bench, server)
            admitted.append((first - before) / STREAMS)
            pinged.append((second - before) / STREAMS)
    return {"streams": STREAMS, "admitted_bytes": figure(admitted), "pinged_bytes": figure(pinged)}


def _memory(bench: Bench, server: ThisServer) -> tuple[int, int, int]:
    """Return the resident bytes of the web process before, with all streams waiting, and after their pings.

    A signal stops the pipeline process meanwhile, so that only waiting is measured, with any model.
    """
    client, web = bench.client, server.web_pid()
    os.kill(server.model_pid(), signal.SIGSTOP)
    try:
        request = server.chat(user(passage(32, 0)), 40, 32)
        client.send(server.port, request)
        client.run_until(time.perf_counter() + 0.5)
        before = resident_bytes(web)
        streams = [client.send(server.port, request) for _ in range(STREAMS)]
        # When the last stream is admitted, all are; its ping comes PING_SECONDS later.
        client.run_until(time.perf_counter() + PING_SECONDS / 2)
        first = resident_bytes(web)
        client.run(lambda: all(stream.begun for stream in streams))
        client.run_until(time.perf_counter() + PING_SECONDS)
        return before, first, resident_bytes(web)
    finally:
        client.leave_all()
        os.kill(server.model_pid(), signal.SIGCONT)
