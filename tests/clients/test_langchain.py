"""LangChain: its own standard tests of a chat model, and structured outputs.

Whatever the temperature, a structured output is an object of the class that was asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.processes import PATIENCE
from tests.support.server import Server

# Prints the object of each answer and the last one of its stream, with the names of their classes.
PROGRAM = """
import json
import sys
from typing import Annotated, Literal

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


class River(BaseModel):
    name: Annotated[str, Field(max_length=10)]
    navigable: bool


class City(BaseModel):
    \"\"\"A city\"\"\"

    name: Annotated[str, Field(pattern="^[A-Z][a-z]{2,8}$")]
    climate: Literal["mild", "hot", "cold"]
    population: Annotated[int, Field(ge=0, le=100_000_000)]
    rivers: Annotated[list[River], Field(max_length=2)]
    mayor: Annotated[str, Field(max_length=10)] | None


class Capital(BaseModel):
    \"\"\"An answer\"\"\"

    answer: str


url, method, *cases = sys.argv[1:]
for case in cases:
    kind, temperature, question = json.loads(case)
    model = ChatOpenAI(base_url=url, api_key="none", model="chatglm3-demo", temperature=temperature)
    structured = model.with_structured_output({"City": City, "Capital": Capital}[kind], method=method)
    *_, streamed = structured.stream(question)
    for answer in (structured.invoke(question), streamed):
        print(type(answer).__name__, answer.model_dump_json())
"""

CITY = "What is the weather in Paris?"
CAPITAL = "What is the capital of France? Answer in JSON."


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_an_answer_is_an_object_of_the_class(demo: Server, python_clients: Path, method: str) -> None:
    cases: list[tuple[str, int, str]] = [("Capital", 0, CAPITAL)]
    if method != "json_mode":
        # Any object is JSON, so in that mode the model must know the class.
        cases += [("City", temperature, CITY) for temperature in (0, 1, 2)]
    command = [str(python_clients / "python"), "-c", PROGRAM, f"{demo.url}/v1", method, *map(json.dumps, cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    # Each answer was asked for twice, once as a stream.
    assert [line.split()[0] for line in printed] == [kind for kind, _, _ in cases for _ in range(2)]
    if method != "function_calling":
        assert printed[:2] == ['Capital {"answer":"Paris"}'] * 2


# langchain-tests' standard suite, of which each feature is on that this server has. The tiny model would hardly ever
# end a string of JSON by itself, so the tokens that end one are favoured.
STANDARD = """
import os

import httpx
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

URL = os.environ["SERVER_URL"]
ENDS = httpx.post(f"{URL}/tokenize", json={"content": '{"a": "b", "c": "d"}', "with_pieces": True}).json()["tokens"]


class TestStandard(ChatModelIntegrationTests):
    chat_model_class = ChatOpenAI
    chat_model_params = {
        "base_url": f"{URL}/v1",
        "api_key": "none",
        "model": "chatglm3-demo",
        "temperature": 0,
        "max_tokens": 200,
        "stream_usage": True,
    }
    structured_output_kwargs = {
        "logit_bias": {str(token["id"]): 50 for token in ENDS if token["piece"] in ('"', '",', '"}')}
    }
    supports_anthropic_inputs = True
    supports_json_mode = True
    enable_vcr_tests = False
"""
NEEDS_A_CLEVERER_MODEL = {
    # It must copy what stands in the question.
    "test_tool_calling",
    "test_tool_calling_async",
    "test_unicode_tool_call_integration",
    # It must take the keys from the prompt, which nothing else tells it.
    "test_json_mode",
    # It must end a string of a call, which is none of JSON.
    "test_structured_output_pydantic_2_v1",
}


def test_the_standard_tests_of_a_chat_model_pass(demo: Server, python_clients: Path, tmp_path: Path) -> None:
    (tmp_path / "test_standard.py").write_text(STANDARD)
    # The suite's model keeps its connections, so all tests need the same event loop.
    loops = [f"--override-ini=asyncio_default_{kind}_loop_scope=session" for kind in ("test", "fixture")]
    command = [str(python_clients / "python"), "-m", "pytest", "--asyncio-mode=auto", *loops, "--junit-xml=report.xml"]
    environment = {**os.environ, "SERVER_URL": demo.url, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
    failed = [str(case.get("name")) for case in cases if not {"failure", "error"}.isdisjoint(part.tag for part in case)]
    assert {name.partition("[")[0] for name in failed} <= NEEDS_A_CLEVERER_MODEL, done.stdout
    passed = [case for case in cases if {"failure", "error", "skipped"}.isdisjoint(part.tag for part in case)]
    assert len(passed) >= 30, done.stdout
