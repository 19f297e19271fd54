"""Tokens a second of whole answers, from the request to the last byte, compared with the bare loop."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench, check
from benchmarks.figures import figure
from benchmarks.processes import Use
from benchmarks.sides import HttpServer, Messages

RUNS = 7
RUNS_OF_LARGE = 5


def measure(bench: Bench) -> dict[str, Any]:
    """Return the tokens a second of each side and their ratios.

    The sides take turns: bare loop, this server, original server, bare loop, and so on. The web process's CPU time is
    in microseconds a token; its wake-ups are the number of times that it went to sleep, a token.
    """
    rates: dict[str, list[float]] = {"bare": [], "server": [], "original": []}
    cpu: list[float] = []
    wake_ups: list[float] = []
    tokens = 0
    with bench.bare_loop() as bare, bench.this_server() as server, bench.original_server() as original:
        # The first run warms all sides up and does not count.
        for run in range(bench.runs(RUNS if bench.tiny else RUNS_OF_LARGE) + 1):
            questions = bench.questions(run)
            bench.say(f"speed, run {run}: bare loop")
            answers = [bare.answer(messages, bench.answer_tokens) for messages in questions]
            tokens = sum(answer["tokens"] for answer in answers)
            bench.say(f"speed, run {run}: this server")
            before = Use.of(server.web_pid())
            seconds = ask(bench, server, questions, answers, bench.answer_tokens)
            used = Use.of(server.web_pid()).since(before)
            bench.say(f"speed, run {run}: original server")
            original_seconds = ask(bench, original, questions, answers, bench.answer_tokens)
            if run > 0:
                rates["bare"].append(tokens / sum(answer["total"] for answer in answers))
                rates["server"].append(tokens / seconds)
                rates["original"].append(tokens / original_seconds)
                cpu.append(used.cpu_seconds / tokens * 1e6)
                wake_ups.append(used.wake_ups / tokens)
    return {
        "answers": len(questions),
        "tokens": tokens,
        "tokens_per_second": {side: figure(values) for side, values in rates.items()},
        "ratio_to_bare": {
            side: figure([http / bare for http, bare in zip(rates[side], rates["bare"], strict=True)])
            for side in ("server", "original")
        },
        "web_cpu_us_per_token": figure(cpu),
        "web_wake_ups_per_token": figure(wake_ups),
    }


def ask(
    bench: Bench, side: HttpServer, questions: list[Messages], answers: list[dict[str, Any]], max_tokens: int
) -> float:
    """Return the seconds for all ``questions``, one after the other, answered like the bare loop's ``answers``.

    Raises `WrongAnswer`.
    """
    seconds = 0.0
    for messages, answer in zip(questions, answers, strict=True):
        request = side.chat(messages, answer["prompt_tokens"], max_tokens)
        exchange = bench.client.ask(side.port, request)
        check(exchange, answer["text"], side.name)
        seconds += exchange.total
    return seconds
