"""Many clients at once: the speed of all together, and how long each waits for its first token."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.bench import STORIES, Bench, check, user
from benchmarks.figures import figure, percentile
from benchmarks.sides import HttpServer

CLIENTS = (1, 4, 16, 64, 256)
RUNS = 3
ANSWER_TOKENS = 64
# If there are few clients, they ask several times, so that each figure comes from enough requests.
LEAST_REQUESTS = 12


def measure(bench: Bench) -> dict[str, Any]:
    """Return for each number of clients the tokens a second of all, and percentiles of the ms to the first text."""
    with bench.bare_loop() as bare, bench.this_server() as server, bench.original_server() as original:
        expected = [bare.answer(user(story), ANSWER_TOKENS) for story in STORIES]
        found: dict[str, list[dict[str, Any]]] = {"server": [], "original": []}
        for clients in CLIENTS:
            results: dict[str, list[dict[str, float]]] = {"server": [], "original": []}
            for run in range(bench.runs(RUNS)):
                for name, side in (("server", server), ("original", original)):
                    bench.say(f"{clients} clients, run {run + 1}: {side.name}")
                    results[name].append(_run(bench, side, clients, expected))
            for name, runs in results.items():
                found[name].append({key: figure([run[key] for run in runs]) for key in runs[0]} | {"clients": clients})
    return found


def _run(bench: Bench, side: HttpServer, clients: int, expected: list[dict[str, Any]]) -> dict[str, float]:
    client = bench.client
    tokens = 0
    seconds = 0.0
    first: list[float] = []
    for _ in range(max(1, LEAST_REQUESTS // clients)):
        begun = time.perf_counter()
        exchanges = []
        for number in range(clients):
            story = number % len(STORIES)
            request = side.chat(user(STORIES[story]), expected[story]["prompt_tokens"], ANSWER_TOKENS)
            exchanges.append((client.send(side.port, request), expected[story]))
        client.run()
        seconds += time.perf_counter() - begun
        for exchange, answer in exchanges:
            check(exchange, answer["text"], side.name)
            tokens += answer["tokens"]
            first.append(exchange.first_text() * 1000)
    return {
        "tokens_per_second": tokens / seconds,
        "first_text_p50_ms": percentile(first, 50),
        "first_text_p95_ms": percentile(first, 95),
    }
