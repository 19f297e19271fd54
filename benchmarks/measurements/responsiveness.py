"""How long a health check takes while the server evaluates a prompt."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.bench import Bench, passage, user
from benchmarks.figures import percentile
from benchmarks.sides import OriginalServer, ThisServer

# Long enough that one call to the model takes many times longer than a probe may take.
PROMPT_CHARACTERS = {"small": 1200, "medium": 400, "full": 128}
PROBE_INTERVAL = 0.05


def measure(bench: Bench) -> dict[str, Any]:
    """Return the milliseconds that GET /health takes while one prompt is read, with 20 probes a second.

    The original server has no /health; it is asked for GET /v1/models.
    """
    with bench.bare_loop() as bare:
        messages = user(passage(PROMPT_CHARACTERS[bench.shape], 5))
        prompt_tokens = bare.count(messages)
    bench.say("responsiveness: this server")
    with bench.this_server() as server:
        idle = probe_idle(bench, server, 40)
        found = probe_while_reading(bench, server, server.chat(messages, prompt_tokens, 1))
    bench.say("responsiveness: original server")
    with bench.original_server() as original:
        theirs = probe_while_reading(bench, original, original.chat(messages, prompt_tokens, 1))
    return {"prompt_tokens": prompt_tokens, "server": found, "server_idle": idle, "original": theirs}


def probe_idle(bench: Bench, side: ThisServer, count: int) -> dict[str, float]:
    """Return the milliseconds that ``count`` probes take, 20 a second, while the server does nothing else."""
    begun = time.perf_counter()
    probes = [bench.client.send(side.port, side.probe, begun + PROBE_INTERVAL * number) for number in range(count)]
    bench.client.run()
    return _summary([probe.total for probe in probes])


def probe_while_reading(bench: Bench, side: ThisServer | OriginalServer, request: bytes) -> dict[str, float]:
    """Return the milliseconds that probes take, 20 a second, until ``request`` is answered. Raises `NoAnswer`."""
    client = bench.client
    reading = client.send(side.port, request)
    begun = time.perf_counter() + PROBE_INTERVAL
    probes = [client.send(side.port, side.probe, begun + PROBE_INTERVAL * number) for number in range(20_000)]
    client.run(lambda: reading.over is not None)
    reading.texts()
    due = [probe for probe in probes if probe.due < reading.due + reading.total]
    client.run(lambda: all(probe.over is not None for probe in due))
    client.leave_all()
    return _summary([probe.total for probe in due]) | {"read_seconds": reading.total}


def _summary(seconds: list[float]) -> dict[str, float]:
    return {
        "probes": len(seconds),
        "p50_ms": percentile(seconds, 50) * 1000,
        "p99_ms": percentile(seconds, 99) * 1000,
        "most_ms": max(seconds) * 1000,
    }
