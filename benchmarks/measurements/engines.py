"""Both engines and llama.cpp's server alone, side by side with the same weights.

The sides take turns: this server on chatglm-cpp, this server on llama.cpp, and llama.cpp's server alone, which gets the
ids of the same prompts. Answers are greedy, and all sides must give the same ones.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import STORIES, Bench, WrongAnswer, passage, user
from benchmarks.client import Exchange
from benchmarks.figures import Figure, figure
from benchmarks.measurements.first_token import Chat
from benchmarks.measurements.freeing import leave
from benchmarks.measurements.responsiveness import PROMPT_CHARACTERS as PROBED_CHARACTERS
from benchmarks.measurements.responsiveness import probe_idle, probe_while_reading
from benchmarks.sides import LlamaServer, Messages, ThisServer, repacked

CLIENTS = 4
# Seconds between the clients. Those that llama-server alone gets at the same moment begin together. Those that must be
# tokenized first come a millisecond apart, and the model has begun with the first one.
CLIENT_INTERVAL = 0.01
RUNS = 7
# Few, and short answers, because people wait for the full-size model.
RUNS_OF_LARGE = 3
ANSWER_TOKENS = {"tiny": 256, "small": 64, "medium": 32, "full": 24}
PROMPT_CHARACTERS = {"tiny": 1000, "small": 400, "medium": 200, "full": 112}
SHORT_CHARACTERS = 8
TURNS = 3
IDLE_PROBES = 200
INTERRUPTIONS = 3
# A client leaves at these parts of its prompt's prefill.
EARLIEST, LATEST = 0.05, 0.15

KINDS = ("decode", "prefill", "clients")
CHATGLM_CPP, LLAMA_CPP, LLAMA_SERVER = SIDES = ("chatglm-cpp", "llama.cpp", "llama-server")
SETTINGS: Mapping[str, Mapping[str, str]] = {
    CHATGLM_CPP: {"GLM_BACKEND": "chatglm-cpp"},
    LLAMA_CPP: {"GLM_BACKEND": "llama-cpp", "GLM_GPU_LAYERS": "0"},
}


@dataclass(frozen=True, slots=True)
class _Prompt:
    messages: Messages
    ids: list[int]


@dataclass(frozen=True, slots=True)
class _Task:
    """Prompts that are asked at once, or one after the other, and the most tokens of each answer.

    If the tokens of the prompts are ``cached``, all sides have read them before.
    """

    kind: str
    prompts: list[_Prompt]
    max_tokens: int
    at_once: bool = False
    cached: bool = False


def measure(bench: Bench) -> dict[str, Any]:
    """Return the tokens a second of each side, their ratios, and what this server's engines take for other things.

    These are the ms to the first text of a chat's turns, and, unless the model is tiny, the ms of a health check while
    llama.cpp reads a prompt, and the part of a prefill that llama.cpp goes on with after its client has left.
    """
    if bench.tiny:
        # So that the repacked file does not lie beside the bundled one.
        copy = bench.logs / bench.model.name
        shutil.copyfile(bench.model, copy)
        bench = dataclasses.replace(bench, model=copy)
    found = _speed(bench)
    found["chats"] = {name: _chat(bench, name) for name in SETTINGS}
    if not bench.tiny:
        found |= _reading(bench, found["chats"][LLAMA_CPP]["new_chat_ms"] / 1000)
    return found


def _speed(bench: Bench) -> dict[str, Any]:
    runs = bench.runs(RUNS if bench.tiny else RUNS_OF_LARGE)
    with bench.bare_loop() as bare:
        # The first run warms all sides up and does not count.
        tasks = [_tasks(bench, run, bare.ids) for run in range(runs + 1)]
    bench.say("engines: repack")
    gguf = repacked(bench.model)
    rates: dict[str, dict[str, list[float]]] = {kind: {side: [] for side in SIDES} for kind in KINDS}
    with (
        bench.this_server(SETTINGS[CHATGLM_CPP]) as chatglm_cpp,
        bench.this_server(SETTINGS[LLAMA_CPP]) as llama_cpp,
        bench.llama_server(gguf) as llama_server,
    ):
        sides: dict[str, ThisServer | LlamaServer] = {
            CHATGLM_CPP: chatglm_cpp,
            LLAMA_CPP: llama_cpp,
            LLAMA_SERVER: llama_server,
        }
        for run, tasks_of_run in enumerate(tasks):
            for task in tasks_of_run:
                tokens, texts = 0, None
                for name, side in sides.items():
                    bench.say(f"engines, run {run}: {task.kind}, {name}")
                    seconds, exchanges = _ask(bench, side, task)
                    if texts is None:
                        texts = [exchange.text() for exchange in exchanges]
                        tokens = sum(_tokens(task, exchange) for exchange in exchanges)
                    for text, exchange in zip(texts, exchanges, strict=True):
                        _check(text, exchange, side, name)
                    if run > 0:
                        rates[task.kind][name].append(tokens / seconds)
    return {
        "clients": CLIENTS,
        "tokens_per_second": {
            kind: {side: figure(values) for side, values in of_kind.items()} for kind, of_kind in rates.items()
        },
        "of_llama_server": {kind: _ratio(rates[kind], LLAMA_SERVER) for kind in KINDS},
        "of_chatglm_cpp": {kind: _ratio(rates[kind], CHATGLM_CPP) for kind in KINDS},
    }


def _ratio(rates: Mapping[str, list[float]], to: str) -> Figure:
    """Return the speed of this server on llama.cpp, divided by that of the side ``to`` in the same run."""
    return figure([ours / theirs for ours, theirs in zip(rates[LLAMA_CPP], rates[to], strict=True)])


def _tasks(bench: Bench, run: int, ids: Any) -> list[_Task]:
    """Return what is asked in a run: prompts that no other run has, but for those of the tiny model's short ones."""

    def prompt(text: str) -> _Prompt:
        messages = user(text)
        return _Prompt(messages, ids(messages))

    first = (CLIENTS + 2) * run
    if bench.tiny:
        # It ends its answers by itself, soon if the question makes no sense.
        single, crowd = list(STORIES), list(STORIES[:CLIENTS])
    else:
        single = [passage(SHORT_CHARACTERS, first)]
        crowd = [passage(SHORT_CHARACTERS, first + 1 + number) for number in range(CLIENTS)]
    long = passage(PROMPT_CHARACTERS[bench.shape], first + CLIENTS + 1)
    most = ANSWER_TOKENS[bench.shape]
    return [
        _Task("decode", list(map(prompt, single)), most, cached=True),
        _Task("prefill", [prompt(long)], 1),
        _Task("clients", list(map(prompt, crowd)), most, at_once=True),
    ]


def _tokens(task: _Task, exchange: Exchange) -> int:
    """Return the number of tokens for the rate: those of the prompt if it is about them."""
    return int(exchange.usage()["prompt_tokens" if task.kind == "prefill" else "completion_tokens"])


def _ask(bench: Bench, side: ThisServer | LlamaServer, task: _Task) -> tuple[float, list[Exchange]]:
    """Return the seconds for all answers, and the answers."""
    client = bench.client
    requests = [_request(side, prompt, task.max_tokens) for prompt in task.prompts]
    if task.at_once:
        begun = time.perf_counter()
        exchanges = [
            client.send(side.port, request, begun + CLIENT_INTERVAL * number) for number, request in enumerate(requests)
        ]
        client.run()
        return max(exchange.due + exchange.total for exchange in exchanges) - exchanges[0].due, exchanges
    exchanges = []
    for prompt, request in zip(task.prompts, requests, strict=True):
        if task.cached:
            client.ask(side.port, _request(side, prompt, 1))
        exchanges.append(client.ask(side.port, request))
    return sum(exchange.total for exchange in exchanges), exchanges


def _request(side: ThisServer | LlamaServer, prompt: _Prompt, max_tokens: int) -> bytes:
    if isinstance(side, LlamaServer):
        return side.complete(prompt.ids, max_tokens)
    return side.chat(prompt.messages, len(prompt.ids), max_tokens)


def _check(expected: str, exchange: Exchange, side: ThisServer | LlamaServer, name: str) -> None:
    """Raise `WrongAnswer` if a side does not answer as the first one did, and `NoAnswer` when there is no answer."""
    if isinstance(side, LlamaServer):
        # It gives the empty line in front of the text too.
        text = "".join(str(event["content"]) for _, event in exchange.events()).strip()
    else:
        text = exchange.text()
    if text != expected:
        raise WrongAnswer(f"{name} answered {text!r}, {SIDES[0]} {expected!r}")


def _chat(bench: Bench, name: str) -> dict[str, Any]:
    with bench.this_server(SETTINGS[name]) as server:
        bench.say(f"engines: chat, {name}")
        chat = Chat(bench, server, 3)
        new = chat.turn()
        tokens = chat.prompt_tokens
        turns = [chat.turn() for _ in range(bench.runs(TURNS))]
    return {"history_tokens": tokens, "new_chat_ms": new, "next_turn_ms": figure(turns)}


def _reading(bench: Bench, whole: float) -> dict[str, Any]:
    """Return how llama.cpp reads prompts. ``whole`` is the time for a whole prompt of a new chat, in seconds.

    There is one slot, so that the next request waits until the client that has left is out of it.
    """
    with bench.this_server({**SETTINGS[LLAMA_CPP], "GLM_CACHE_SLOTS": "1"}) as server:
        bench.say("engines: health checks")
        idle = probe_idle(bench, server, bench.runs(IDLE_PROBES))
        prompt = user(passage(PROBED_CHARACTERS[bench.shape], 5))
        health = probe_while_reading(bench, server, server.chat(prompt, 0, 1))
        freed = []
        runs = bench.runs(INTERRUPTIONS)
        for run in range(runs):
            bench.say(f"engines: interruption, run {run + 1}")
            messages = Chat(bench, server, 7 + run).messages
            first = bench.client.send(server.port, server.chat(messages, 0, 1))
            part = EARLIEST + (LATEST - EARLIEST) * run / max(1, runs - 1)
            freed.append(leave(bench, server, first, part * whole))
    return {
        "health": health,
        "health_idle": idle,
        "interruption": {
            "whole_seconds": whole,
            "free_ms": figure([1000 * seconds for seconds in freed]),
            "fraction": figure([seconds / whole for seconds in freed]),
        },
    }
