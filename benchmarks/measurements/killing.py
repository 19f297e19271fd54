"""Requests lost when the process that computes is killed while one request is answered and others wait."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from benchmarks.bench import Bench, user
from benchmarks.client import Client, Exchange, NoAnswer
from benchmarks.figures import figure
from benchmarks.sides import HttpServer

RUNS = 3
WAITING = 10
ADMISSION_SECONDS = 0.3


def measure(bench: Bench) -> dict[str, Any]:
    """Return how many of ``WAITING`` + 1 requests are lost, and the seconds until the running answer goes on."""
    found: dict[str, Any] = {"requests": WAITING + 1}
    lost: list[float] = []
    seconds: list[float] = []
    for run in range(bench.runs(RUNS)):
        bench.say(f"killed, run {run + 1}: this server")
        with bench.this_server() as server:
            running, waiting = _crowd(bench, server)
            os.kill(server.model_pid(), signal.SIGKILL)
            killed = time.perf_counter()
            bench.client.run()
            answered = [exchange for exchange in waiting if _is_whole(exchange)]
            lost.append(len(waiting) + 1 - len(answered) - _is_whole(running))
            if _is_whole(running):
                seconds += [running.due + at - killed for at, _ in running.texts() if running.due + at > killed][:1]
    found["server"] = {"lost": figure(lost), "next_token_seconds": figure(seconds) if seconds else None}
    bench.say("killed: original server")
    with bench.original_server() as original:
        running, waiting = _crowd(bench, original)
        os.kill(original.model_pid(), signal.SIGKILL)
        bench.client.run()
        lives = bench.client.ask(original.port, original.probe).error is None
        lost_there = sum(not _is_whole(exchange) for exchange in (running, *waiting))
        found["original"] = {"lost": lost_there, "serves_again": lives, "error": _error(running)}
    return found


def _crowd(bench: Bench, side: HttpServer) -> tuple[Exchange, list[Exchange]]:
    """Return a request that is being answered, and the waiting ones behind it, streamed and not streamed in turns.

    A signal stops the process that computes, so that the answer does not end before the process is killed.
    """
    client: Client = bench.client
    messages = user("Tell me a long story.")
    client.ask(side.port, side.chat(user("你好"), 8, 4)).texts()
    running = client.send(side.port, side.chat(messages, 32, 1000))
    client.run(lambda: running.first_event() is not None)
    os.kill(side.model_pid(), signal.SIGSTOP)
    waiting = [client.send(side.port, side.chat(messages, 32, 16, stream=number % 2 == 0)) for number in range(WAITING)]
    client.run_until(time.perf_counter() + ADMISSION_SECONDS)
    return running, waiting


def _is_whole(exchange: Exchange) -> bool:
    try:
        return bool(exchange.text())
    except NoAnswer:
        return False


def _error(exchange: Exchange) -> str:
    try:
        exchange.text()
    except NoAnswer as error:
        return str(error)
    return ""
