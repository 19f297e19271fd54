"""Time to the first token of a chat's later turns, which follow a thousand tokens of history.

This server keeps what it has read in its cache slots. The original server reads everything again, but never more than
the last 512 tokens, whatever it is asked. So the report also tells how long this server takes to read all of it once.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench, passage, user
from benchmarks.figures import figure
from benchmarks.sides import ORIGINAL_CUT, Messages, ThisServer

HISTORY_CHARACTERS = 1000
ANSWER_TOKENS = 8
TURNS = 4
QUESTION = "今天你好"
ORIGINAL_RUNS = 2


def measure(bench: Bench) -> dict[str, Any]:
    """Return the ms to the first text of a new chat, of its next turns, and of its turns when two chats alternate."""
    with bench.this_server() as server:
        first, second = Chat(bench, server, 3), Chat(bench, server, 31)
        bench.say("first token: this server reads a first chat")
        new = [first.turn()]
        history = first.prompt_tokens
        single = [first.turn() for _ in range(TURNS)]
        bench.say("first token: this server reads a second chat")
        new.append(second.turn())
        alternating = [chat.turn() for _ in range(TURNS) for chat in (first, second)]
    with bench.original_server() as original:
        request = original.chat(first.messages[:3], history, ANSWER_TOKENS)
        again = []
        for run in range(bench.runs(ORIGINAL_RUNS)):
            bench.say(f"first token, run {run + 1}: the original server reads it again")
            again.append(bench.client.ask(original.port, request).first_text() * 1000)
    figures = {"new_chat_ms": new, "next_turn_ms": single, "alternating_ms": alternating, "original_ms": again}
    found = {name: figure(values) for name, values in figures.items()}
    return {
        "history_tokens": history,
        "original_tokens": min(history, ORIGINAL_CUT),
        "tokens_read_for_a_turn": figure(first.read + second.read),
        **found,
        "times_faster": found["original_ms"]["median"] / found["next_turn_ms"]["median"],
        "times_faster_alternating": found["original_ms"]["median"] / found["alternating_ms"]["median"],
        "times_faster_than_new_chat": found["new_chat_ms"]["median"] / found["next_turn_ms"]["median"],
    }


class Chat:
    """A chat that begins with a long message. Each turn adds the previous answer to its history."""

    def __init__(self, bench: Bench, server: ThisServer, variant: int) -> None:
        self._bench = bench
        self._server = server
        self.messages: Messages = user(passage(HISTORY_CHARACTERS, variant))
        self.prompt_tokens = 0
        self.read: list[int] = []

    def turn(self) -> float:
        """Ask, and add the answer and the next question; return the milliseconds to the first text."""
        request = self._server.chat(self.messages, self.prompt_tokens, ANSWER_TOKENS)
        exchange = self._bench.client.ask(self._server.port, request)
        usage = exchange.usage()
        if self.prompt_tokens:
            self.read.append(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])
        self.prompt_tokens = usage["prompt_tokens"]
        answer = {"role": "assistant", "content": exchange.text()}
        self.messages = [*self.messages, answer, *user(QUESTION)]
        return exchange.first_text() * 1000
