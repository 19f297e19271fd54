"""docs/clients.md: each piece of code runs unchanged against the live server."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import Server

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
ADDRESS = "http://127.0.0.1:8000"
PATIENCE = 120

COUNTED = re.escape(", ".join(map(str, range(1, 11))))
CALLED = r"(?s)get_weather.*Paris.*17"
SAID = r"\S"
PARSED = "answer='Paris'"

# The expected output of the code under each heading, one pattern for each piece.
PRINTS = {
    "curl": [r'"role": ?"assistant"', r'(?s)"content":"[^"]+".*"completion_tokens":.*data: \[DONE\]', r'"tokens":\[\d'],
    "Chat": [SAID],
    "Streams": [COUNTED],
    "Tools": [CALLED],
    "Structured outputs": [PARSED],
    "asyncio": [SAID],
    "Responses": ["Paris"],
    "Chat in JavaScript": [SAID],
    "Streams in JavaScript": [COUNTED],
    "Tools in JavaScript": [CALLED],
    "Tools in the AI SDK": [CALLED],
    "Objects in the AI SDK": ["^Paris$"],
    "Messages": [SAID],
    "Streamed messages": [COUNTED],
    "Tools in messages": [CALLED],
    "Claude Code": ["^The capital of France is Paris.$"],
    "LangChain": [CALLED, PARSED],
    "OpenAI's Agents SDK": [CALLED],
    "Pydantic AI": [CALLED, PARSED],
    "Instructor": [PARSED],
    "LlamaIndex": [CALLED],
    "LiteLLM": [COUNTED],
    "llm": [COUNTED, CALLED],
}
# These need version 2 of OpenAI's SDK.
OPENAI_2 = ("Instructor", "LlamaIndex")


@dataclass(frozen=True)
class Piece:
    """A piece of code, and the pattern of its output."""

    heading: str
    language: str
    code: str
    prints: str

    def __str__(self) -> str:
        return self.heading


def blocks(language: str) -> list[tuple[str, str]]:
    """Return each piece of code in ``language`` on the page, with its heading."""
    found, heading = [], ""
    for title, named, code in re.findall(
        r"^#+ ([^\n]*)$|^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        heading = title or heading
        # The environments already have these packages.
        if named == language and not code.startswith(("pip install", "npm install")):
            found.append((heading, code))
    return found


def pieces(*languages: str) -> list[Piece]:
    found = []
    for language in languages:
        seen: dict[str, int] = {}
        for heading, code in blocks(language):
            number = seen[heading] = seen.get(heading, -1) + 1
            found.append(Piece(heading, language, code, PRINTS[heading][number]))
    return found


def run(server: Server, *command: str, cwd: Path, **environment: str) -> str:
    """Run the program, and return its standard output and standard error together."""
    done = subprocess.run(
        [part.replace(ADDRESS, server.url) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_expected_output_has_its_code() -> None:
    assert {piece.heading for piece in pieces("sh", "python", "js")} == set(PRINTS)
    assert len(pieces("sh", "python", "js")) == sum(map(len, PRINTS.values()))


@pytest.mark.parametrize("piece", [piece for piece in pieces("python") if piece.heading not in OPENAI_2], ids=str)
def test_python(piece: Piece, demo: Server, python_clients: Path, tmp_path: Path) -> None:
    # Without this LiteLLM would ask the Internet for prices.
    output = run(
        demo, str(python_clients / "python"), "-c", piece.code, cwd=tmp_path, LITELLM_LOCAL_MODEL_COST_MAP="True"
    )
    assert re.search(piece.prints, output), output


@pytest.mark.parametrize("piece", [piece for piece in pieces("python") if piece.heading in OPENAI_2], ids=str)
def test_python_with_openai_2(piece: Piece, demo: Server, openai_2_clients: Path, tmp_path: Path) -> None:
    output = run(demo, str(openai_2_clients / "python"), "-c", piece.code, cwd=tmp_path)
    assert re.search(piece.prints, output), output


@pytest.mark.parametrize("piece", pieces("js"), ids=str)
def test_javascript(piece: Piece, demo: Server, node: str, node_clients: Path) -> None:
    output = run(demo, node, "--input-type=module", "--eval", piece.code, cwd=node_clients)
    assert re.search(piece.prints, output), output


@pytest.mark.parametrize("piece", [piece for piece in pieces("sh") if piece.heading == "curl"], ids=str)
@pytest.mark.usefixtures("curl")
def test_curl(piece: Piece, demo: Server, tmp_path: Path) -> None:
    output = run(demo, "bash", "-euc", piece.code, cwd=tmp_path)
    assert re.search(piece.prints, output), output


@pytest.mark.parametrize("piece", [piece for piece in pieces("sh") if piece.heading == "Claude Code"], ids=str)
def test_claude_code(piece: Piece, demo: Server, node_clients: Path, tmp_path: Path) -> None:
    path = f"{node_clients / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
    output = run(demo, "bash", "-euc", piece.code, cwd=tmp_path, PATH=path, HOME=str(tmp_path))
    assert re.search(piece.prints, output), output


@pytest.mark.parametrize("piece", [piece for piece in pieces("sh") if piece.heading == "llm"], ids=str)
def test_llm(piece: Piece, demo: Server, python_clients: Path, tmp_path: Path) -> None:
    [(_, declaration)] = blocks("yaml")
    (tmp_path / "extra-openai-models.yaml").write_text(declaration.replace(ADDRESS, demo.url))
    path = f"{python_clients}{os.pathsep}{os.environ['PATH']}"
    output = run(demo, "bash", "-euc", piece.code, cwd=tmp_path, PATH=path, LLM_USER_PATH=str(tmp_path))
    assert re.search(piece.prints, output), output
