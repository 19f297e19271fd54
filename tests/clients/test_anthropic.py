"""Anthropic's Python SDK and Claude Code against the demo model. The SDK validates every answer and event strictly."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from config import Settings
from glm_api import create_app
from glm_api.pipeline.job import Job
from tests.support.fake_pipeline import MODEL, FakeGeneration, FakePipeline, Script, call, text
from tests.support.processes import PATIENCE
from tests.support.server import Server

HEAD = """
import json
import sys

import anthropic
from pydantic import BaseModel

client = anthropic.Anthropic(
    base_url=sys.argv[1], api_key="none", max_retries=0, _strict_response_validation=True
)
MODEL = "chatglm3-demo"
# The SDK has no parameter for it any more.
GREEDY = {"temperature": 0}


def user(text):
    return {"role": "user", "content": text}


def show(**found):
    print(json.dumps(found, ensure_ascii=False))


def answered(stream, **request):
    request = {"model": MODEL, "max_tokens": 100, "extra_body": GREEDY, **request}
    if not stream:
        return client.messages.create(**request)
    with client.messages.stream(**request) as events:
        for event in events:
            pass
        return events.get_final_message()


WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "City name"}},
        "required": ["city"],
    },
}
"""


def run(server: Server, clients: Path, program: str) -> list[dict[str, Any]]:
    """Run the program and return what it shows, an object a line."""
    command = [str(clients / "python"), "-c", HEAD + program, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_stream_gives_the_same_message_as_one_piece(demo: Server, python_clients: Path) -> None:
    program = """
for stream in (False, True):
    message = answered(stream, system="You are a helpful assistant.", messages=[user("What is the capital of France?")])
    usage = message.usage
    show(
        text=[block.text for block in message.content],
        reason=message.stop_reason,
        tokens=[usage.input_tokens + usage.cache_read_input_tokens, usage.output_tokens],
    )
"""
    whole, streamed = run(demo, python_clients, program)
    assert whole == streamed
    assert "Paris" in whole["text"][0]
    assert whole["reason"] == "end_turn"


def test_the_tokens_of_a_prompt_are_counted_as_they_are_used(demo: Server, python_clients: Path) -> None:
    program = """
request = {"model": MODEL, "messages": [user("What is the weather in Paris?")], "tools": [WEATHER]}
usage = client.messages.create(**request, max_tokens=1).usage
show(
    counted=client.messages.count_tokens(**request).input_tokens,
    used=usage.input_tokens + usage.cache_read_input_tokens,
)
"""
    [found] = run(demo, python_clients, program)
    assert found["counted"] == found["used"] > 100


def test_a_stop_sequence_ends_the_answer_and_is_named(demo: Server, python_clients: Path) -> None:
    program = """
for stream in (False, True):
    message = answered(stream, messages=[user("Count from 1 to 10.")], stop_sequences=["9", "4, "])
    show(text=message.content[0].text, reason=message.stop_reason, sequence=message.stop_sequence)
message = answered(False, messages=[user("Count from 1 to 10.")], max_tokens=3)
show(reason=message.stop_reason, sequence=message.stop_sequence)
"""
    stopped = {"text": "1, 2, 3, ", "reason": "stop_sequence", "sequence": "4, "}
    assert run(demo, python_clients, program) == [stopped, stopped, {"reason": "max_tokens", "sequence": None}]


def test_a_tool_is_called_and_its_result_is_answered(demo: Server, python_clients: Path) -> None:
    program = """
for stream in (False, True):
    messages = [user("What is the weather in Paris?")]
    called = answered(stream, messages=messages, tools=[WEATHER])
    [use] = [block for block in called.content if block.type == "tool_use"]
    show(reason=called.stop_reason, name=use.name, input=use.input)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [
        {"type": "text", "text": json.dumps({"temperature": 17, "condition": "cloudy"})}
    ]}
    messages += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    message = answered(stream, messages=messages, tools=[WEATHER])
    show(reason=message.stop_reason, text=message.content[0].text)
"""
    found = run(demo, python_clients, program)
    assert found[:2] == found[2:]
    assert found[0] == {"reason": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}
    assert found[1]["reason"] == "end_turn"
    assert "17" in found[1]["text"]


def test_a_tool_that_must_be_called_is_called(demo: Server, python_clients: Path) -> None:
    program = """
for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}):
    called = answered(False, messages=[user("Hello!")], tools=[WEATHER], tool_choice=choice)
    show(names=[block.name for block in called.content], reason=called.stop_reason)
told = answered(False, messages=[user("Hello!")], tools=[WEATHER], tool_choice={"type": "none"})
show(types=[block.type for block in told.content])
"""
    *called, told = run(demo, python_clients, program)
    assert called == [{"names": ["get_weather"], "reason": "tool_use"}] * 2
    assert told == {"types": ["text"]}


def test_the_sdks_own_runner_calls_tools(demo: Server, python_clients: Path) -> None:
    program = '''
@anthropic.beta_tool
def get_weather(city: str) -> str:
    """Get the weather of a city

    Args:
        city: City name
    """
    show(city=city)
    return json.dumps({"temperature": 17, "condition": "cloudy"})


runner = client.beta.messages.tool_runner(
    model=MODEL,
    max_tokens=100,
    extra_body=GREEDY,
    tools=[get_weather],
    messages=[user("What is the weather in Paris?")],
)
show(text=runner.until_done().content[0].text)
'''
    called, last = run(demo, python_clients, program)
    assert called == {"city": "Paris"}
    assert "17" in last["text"]


def test_an_answer_is_an_object_of_the_class(demo: Server, python_clients: Path) -> None:
    program = """
class Capital(BaseModel):
    answer: str


question = user("What is the capital of France? Answer in JSON.")
parsed = client.messages.parse(
    model=MODEL, max_tokens=100, extra_body=GREEDY, messages=[question], output_format=Capital
)
show(kind=type(parsed.parsed_output).__name__, **parsed.parsed_output.model_dump())
"""
    assert run(demo, python_clients, program) == [{"kind": "Capital", "answer": "Paris"}]


def test_the_last_message_of_the_assistant_is_continued(demo: Server, python_clients: Path) -> None:
    program = """
messages = [user("Count from 1 to 10."), {"role": "assistant", "content": "1, 2, 3,"}]
show(text=answered(False, messages=messages).content[0].text)
"""
    [found] = run(demo, python_clients, program)
    assert found["text"].strip().startswith("4, 5")


def test_errors_have_the_classes_of_the_sdk(demo: Server, python_clients: Path) -> None:
    program = """
for request in ({"messages": []}, {"messages": [user("word " * 5000)]}, {"messages": [user("Hi")], "speed": "fast"}):
    try:
        answered(False, **request)
    except anthropic.BadRequestError as error:
        show(type=error.type, message=error.api_message, id=error.request_id, body=error.body["request_id"])
"""
    found = run(demo, python_clients, program)
    assert [error["type"] for error in found] == ["invalid_request_error"] * 3
    assert all(error["id"] == error["body"] for error in found)
    assert found[1]["message"].startswith("prompt is too long: ")
    assert "'speed'" in found[2]["message"]


def test_the_models_are_listed(demo: Server, python_clients: Path) -> None:
    program = """
for model in client.models.list():
    show(id=model.id, same=client.models.retrieve(model.id) == model, year=model.created_at.year)
"""
    [found] = run(demo, python_clients, program)
    assert (found["id"], found["same"], found["year"] > 2020) == ("chatglm3-demo", True, True)


def test_asyncio(demo: Server, python_clients: Path) -> None:
    program = """
import asyncio


async def main():
    asynchronous = anthropic.AsyncAnthropic(base_url=sys.argv[1], api_key="none", _strict_response_validation=True)
    async with asynchronous.messages.stream(
        model=MODEL, max_tokens=100, extra_body=GREEDY, messages=[user("Count from 1 to 10.")]
    ) as events:
        show(text="".join([text async for text in events.text_stream]))


asyncio.run(main())
"""
    [found] = run(demo, python_clients, program)
    assert found["text"].startswith("1, 2, 3, 4, 5")


def claude(url: str, clients: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Claude Code without a terminal, and without any settings of the user."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_MODEL": "chatglm3-demo",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return subprocess.run(
        [str(clients / "node_modules" / ".bin" / "claude"), "-p", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_claude_code_understands_that_a_prompt_is_too_long(demo: Server, node_clients: Path, tmp_path: Path) -> None:
    # Its own prompt and tools fit into no context of 2,048 tokens.
    done = claude(demo.url, node_clients, tmp_path, "Hello!")
    assert done.returncode == 1
    assert "Prompt is too long" in done.stdout
    assert "limit 2048" in done.stdout


class Turns(FakePipeline):
    """A pipeline of a large context that has one script for each request."""

    def __init__(self, *turns: Script) -> None:
        super().__init__(info=replace(MODEL, context_length=2**20))
        self._turns = iter(turns)

    def generate(self, job: Job) -> FakeGeneration:
        self.scripts = [next(self._turns)]
        return super().generate(job)


@contextmanager
def served(backend: FakePipeline) -> Iterator[str]:
    """Serve the application over ``backend`` at the address that it yields."""
    server = make_server("127.0.0.1", 0, create_app(Settings(), backend), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_claude_code_runs_a_tool_and_sends_its_result(node_clients: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("The temperature is 17.")
    path = json.dumps({"file_path": str(note)})
    backend = Turns([*text("I read it."), *call("Read", path[:9], path[9:])], text("It says ", "17."))
    with served(backend) as url:
        done = claude(url, node_clients, tmp_path, "--allowedTools", "Read", "--", "What does note.txt say?")
    assert (done.returncode, done.stdout) == (0, "It says 17.\n"), done.stdout + done.stderr
    called, result = [message for message in backend.conversations[1].messages if message.role in ("assistant", "tool")]
    assert called.content == "I read it."
    assert [(made.name, json.loads(made.arguments)) for made in called.tool_calls] == [("Read", json.loads(path))]
    assert result.tool_call_id == called.tool_calls[0].id
    assert note.read_text() in result.content
    # It declares its tools and thinking as to any model that it does not know.
    assert len(backend.conversations[0].tools) > 10
