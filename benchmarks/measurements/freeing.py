"""How long the model continues to work for a client that has left, in tokens.

It is measured from outside. One client is being answered, a second one waits, and the first one leaves. The figure is
the time until the second one's answer begins, divided by the time of a token.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench, passage, user
from benchmarks.client import Exchange, NoAnswer
from benchmarks.figures import figure
from benchmarks.sides import HttpServer, Messages

RUNS = 4
LONG = 400  # tokens that nobody waits for
# Fewer for a slow model, because the original server answers to the end.
LONG_OF_FULL = 48
PROMPT = 16
LONG_PROMPT = {"small": 1000, "medium": 300, "full": 96}


def measure(bench: Bench) -> dict[str, Any]:
    """Return the tokens until the pipeline is free, for each side and each state in which a client may leave."""
    long = LONG_OF_FULL if bench.shape == "full" else LONG
    runs = bench.runs(RUNS)
    with bench.bare_loop() as bare:
        answer = bare.answer(user(passage(PROMPT, 0)), 24)
        token = (answer["total"] - answer["first"]) / (answer["tokens"] - 1)
    found: dict[str, Any] = {"ms_per_token": token * 1000}
    with bench.this_server({"GLM_PREFILL": "step"}) as server:
        scene = _Scene(bench, server, token)
        found["server"] = {
            "decode, streamed": figure([scene.decode(long, run, stream=True) for run in range(runs)]),
            "decode, not streamed": figure([scene.decode(long, run, stream=False) for run in range(runs)]),
            "prefill, step mode": figure([scene.prefill(run) for run in range(runs)]),
        }
    with bench.original_server() as original:
        scene = _Scene(bench, original, token)
        few = min(runs, 2)
        found["original"] = {
            "decode, streamed": figure([scene.decode(long, run, stream=True) for run in range(few)]),
            "decode, not streamed": figure([scene.decode(long, run, stream=False) for run in range(few)]),
            "prefill": figure([scene.prefill(run) for run in range(few)]),
        }
    return found


class _Scene:
    """One client that leaves, and one that waits. ``token`` is the time of a token, in seconds."""

    def __init__(self, bench: Bench, side: HttpServer, token: float) -> None:
        self._bench = bench
        self._side = side
        self._token = token

    def decode(self, long: int, run: int, *, stream: bool) -> float:
        """Let the first client leave in the middle of its answer; return the tokens until the second is answered."""
        self._bench.say(f"client leaves, run {run + 1}: {self._side.name}, decode")
        first = self._send(user(passage(PROMPT, run)), PROMPT + 8, long, stream=stream)
        return leave(self._bench, self._side, first, self._token * (PROMPT + 8 + 5.37 + run)) / self._token

    def prefill(self, run: int) -> float:
        """Let the first client leave during its prefill; return the tokens until the second is answered."""
        self._bench.say(f"client leaves, run {run + 1}: {self._side.name}, prefill")
        characters = LONG_PROMPT[self._bench.shape]
        first = self._send(user(passage(characters, run + 7)), characters + 8, 1, stream=True)
        return leave(self._bench, self._side, first, self._token * (3.37 + run)) / self._token

    def _send(self, messages: Messages, prompt_tokens: int, max_tokens: int, *, stream: bool) -> Exchange:
        request = self._side.chat(messages, prompt_tokens, max_tokens, stream=stream)
        return self._bench.client.send(self._side.port, request)


def leave(bench: Bench, side: HttpServer, first: Exchange, after: float) -> float:
    """Let the client of ``first`` leave ``after`` so many seconds; return the seconds until the next request begins.

    Raises `NoAnswer` if ``first`` was answered before.
    """
    client = bench.client
    client.run_until(first.due + after / 2)
    second = client.send(side.port, side.chat(user(passage(4, 40)), 12, 1))
    client.run_until(first.due + after)
    if first.over is not None:
        raise NoAnswer(f"{side.name} answered within {after:.1f} seconds, before the client left")
    left = client.leave(first)
    client.run(lambda: second.first_event() is not None)
    begun = second.first_event()
    client.run()
    second.texts()
    assert begun is not None
    return begun - left
