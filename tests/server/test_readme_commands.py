"""The commands in the READMEs work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[2]
PASTED = {
    f"{name}-{number}": block
    for name in ("README.md", "README.zh-CN.md")
    for number, block in enumerate(
        re.findall(r"^```(?:sh|python)\n(.*?)^```", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
    )
    if "http://127.0.0.1:8000" in block
}
CURL = {name: block for name, block in PASTED.items() if "curl" in block}
PYTHON = {name: block for name, block in PASTED.items() if block.startswith("from openai")}


def pasted(demo: Server, block: str, *shell: str) -> str:
    """What the block prints."""
    text = block.replace("http://127.0.0.1:8000", demo.url)
    result = subprocess.run([*shell, text], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert '"error"' not in result.stdout
    return result.stdout


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("block", CURL.values(), ids=CURL)
def test_the_curl_commands_work(demo: Server, block: str) -> None:
    output = pasted(demo, block, "sh", "-c")
    if '"stream": true' in block:
        assert output.endswith("data: [DONE]\n\n")
        # The pieces of the answer, put together again.
        assert "巴黎" in "".join(re.findall(r'"content": ?"([^"]*)"', decoded(output)))
    else:
        answer = json.loads(output)["choices"][0]["message"]["content"]
        if "response_format" in block:
            [answer] = json.loads(answer).values()
        assert "Paris" in answer or "巴黎" in answer


@pytest.mark.parametrize("block", PYTHON.values(), ids=PYTHON)
def test_the_python_example_works(demo: Server, block: str) -> None:
    assert len(pasted(demo, block, sys.executable, "-c")) > 20


def decoded(text: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)


def test_the_readmes_have_commands() -> None:
    assert (len(CURL), len(PYTHON)) == (6, 2)
    assert CURL | PYTHON == PASTED
