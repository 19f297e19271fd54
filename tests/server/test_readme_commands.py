"""What the READMEs say to paste works when it is pasted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[2]
PASTED = [
    pytest.param(name, block, id=f"{name}-{number}")
    for name in ("README.md", "README.zh-CN.md")
    for number, block in enumerate(
        re.findall(r"^```(?:sh|python)\n(.*?)^```", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
    )
    if "http://127.0.0.1:8000" in block
]


@pytest.mark.parametrize(("name", "block"), PASTED)
def test_it_answers(demo: Server, name: str, block: str) -> None:
    pasted = block.replace("http://127.0.0.1:8000", demo.url)
    shell = [sys.executable, "-c"] if block.startswith("from openai") else ["sh", "-c"]
    result = subprocess.run([*shell, pasted], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert '"error"' not in result.stdout
    if "curl" not in block:
        assert len(result.stdout) > 20
    elif '"stream": true' in block:
        assert result.stdout.endswith("data: [DONE]\n\n")
        # The pieces of the answer, put together again.
        assert "巴黎" in "".join(re.findall(r'"content": ?"([^"]*)"', decoded(result.stdout)))
    else:
        assert "Paris" in result.stdout or "巴黎" in decoded(result.stdout)


def decoded(text: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)


def test_there_is_something_to_paste() -> None:
    assert len(PASTED) == 6
