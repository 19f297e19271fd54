"""What it costs that the server chooses the ids of an answer itself: because of a grammar, or to sample.

Without such wishes chatglm_cpp chooses the likeliest id. Answers to the same prompt are compared, and only their
decode, by their ``timings``. The first token is measured separately: before it, a new grammar is compiled.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench, WrongAnswer
from benchmarks.client import post
from benchmarks.figures import figure
from benchmarks.sides import Messages, ThisServer

RUNS = 7
RUNS_OF_LARGE = 5
FIRST_TOKENS = 15

# Each way to choose, and the one that it is compared with.
COMPARED = {"schema": "greedy", "sampled": "greedy", "tools": "greedy, tools in the prompt"}

# So many that no answer is complete before it has as many tokens as the one without a schema.
RECORDS = 16
BEGINNING = '[{"name": "'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def measure(bench: Bench) -> dict[str, Any]:
    """Return the tokens a second of each way to choose, their ratios, and the ms to the first token."""
    with bench.bare_loop() as bare:
        answers = [(messages, bare.answer(messages, bench.answer_tokens)) for messages in bench.questions(0)]
    with bench.this_server() as server:
        bench.say("choosing: prompts")
        ways = _Ways(bench, server, answers)
        rates: dict[str, list[float]] = {way: [] for way in ways.requests}
        # The first run warms up and does not count.
        for run in range(bench.runs(RUNS if bench.tiny else RUNS_OF_LARGE) + 1):
            # Forwards and backwards in turns, so that what changes with time favours no way.
            for way in list(rates)[:: -1 if run % 2 else 1]:
                bench.say(f"choosing, run {run}: {way}")
                rate = ways.rate(way)
                if run > 0:
                    rates[way].append(rate)
        bench.say("choosing: first token")
        first = _first_tokens(bench, server, answers[0][0])
    return {
        "answers": len(answers),
        "tokens": sum(answer["tokens"] for _, answer in answers),
        "tokens_per_second": {way: figure(values) for way, values in rates.items()},
        "ratio": {
            way: figure([chosen / plain for chosen, plain in zip(rates[way], rates[other], strict=True)])
            for way, other in COMPARED.items()
        },
        "first_token_ms": first,
    }


class _Ways:
    """The ways to choose. ``requests`` has the requests of each, one for each answer of the bare loop."""

    def __init__(self, bench: Bench, server: ThisServer, answers: list[tuple[Messages, dict[str, Any]]]) -> None:
        self._bench = bench
        self._port = server.port
        self.requests: dict[str, list[bytes]] = {way: [] for way in ("greedy", COMPARED["tools"], *COMPARED)}
        # What the answers must be, where that is known.
        self._texts: dict[str, list[str]] = {"greedy": [], COMPARED["tools"]: []}
        for seed, (messages, answer) in enumerate(answers):
            tokens = answer["tokens"]
            prompt = prompt_ids(bench, server, messages)
            with_tools = complete(prompt_ids(bench, server, messages, tools=TOOLS), tokens)
            for way, request in (
                ("greedy", complete(prompt, tokens)),
                ("schema", complete(prompt, tokens, json_schema=schema("name"))),
                ("sampled", complete(prompt, tokens, temperature=1, top_p=0.9, seed=seed)),
                ("tools", server.chat(messages, 0, tokens, stream=False, tools=TOOLS)),
                (COMPARED["tools"], with_tools),
            ):
                self.requests[way].append(request)
            self._texts["greedy"].append(answer["text"])
            self._texts[COMPARED["tools"]].append(_text(self._ask(with_tools)))
        self._texts["tools"] = self._texts[COMPARED["tools"]]

    def rate(self, way: str) -> float:
        """Return the tokens a second of the answers of ``way``. Raises `WrongAnswer`."""
        tokens = 0
        seconds = 0.0
        for number, request in enumerate(self.requests[way]):
            body = self._ask(request)
            self._check(way, number, _text(body))
            # The first token comes with the evaluation of the prompt.
            tokens += body["usage"]["completion_tokens"] - 1
            seconds += body["timings"]["predicted_ms"] / 1000
        return tokens / seconds

    def _check(self, way: str, number: int, text: str) -> None:
        if way == "schema":
            right = text.startswith(BEGINNING)
        else:
            right = way not in self._texts or text == self._texts[way][number]
        if not right:
            raise WrongAnswer(f"{way}: {text!r}")

    def _ask(self, request: bytes) -> Any:
        return self._bench.client.ask(self._port, request).json()


def _first_tokens(bench: Bench, server: ThisServer, messages: Messages) -> dict[str, Any]:
    """Return the ms until an answer of one token is there, whose prompt is in the cache."""
    prompt = prompt_ids(bench, server, messages)
    found: dict[str, list[float]] = {"no schema": [], "a schema seen before": [], "a new schema": []}
    # Each of the first run is new, and none counts.
    for run in range(bench.runs(FIRST_TOKENS) + 1):
        schemas = {"a schema seen before": "name", "a new schema": f"name_{run}"}
        for kind, times in found.items():
            parameters = {"json_schema": schema(schemas[kind])} if kind in schemas else {}
            exchange = bench.client.ask(server.port, complete(prompt, 1, **parameters))
            exchange.json()
            if run > 0:
                times.append(exchange.total * 1000)
    return {kind: figure(times) for kind, times in found.items()}


def schema(name: str) -> dict[str, object]:
    """Return the schema of a list of records, in which ``name`` is a string beside a number and one of some words."""
    properties: dict[str, object] = {
        name: {"type": "string", "minLength": 1, "maxLength": 16},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"enum": ["London", "Paris", "北京", "上海"]},
    }
    record = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "array", "items": record, "minItems": RECORDS, "maxItems": RECORDS}


def prompt_ids(bench: Bench, server: ThisServer, messages: Messages, **declared: object) -> list[int]:
    """Return the prompt that the model gets for ``messages`` and what else is ``declared``."""
    request = post("/apply-template", {"messages": messages, **declared})
    ids: list[int] = bench.client.ask(server.port, request).json()["tokens"]
    return ids


def complete(prompt: list[int], max_tokens: int, **parameters: object) -> bytes:
    """Return a request for a greedy text completion that is not streamed."""
    return post("/v1/completions", {"prompt": prompt, "temperature": 0, "max_tokens": max_tokens, **parameters})


def _text(body: Any) -> str:
    """Return the text of a completion or a chat completion that is not streamed, without white space at its ends."""
    choice = body["choices"][0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"]).strip()
