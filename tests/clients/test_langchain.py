"""LangChain's structured outputs. Whatever the temperature, the answer is an object of the class that was asked for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

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
