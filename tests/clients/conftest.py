"""The clients that people have, and the live server that they talk to.

The clients live in environments of their own: .venv-clients, and node_modules beside package.json. They are installed
by the first test that needs them, and again when their pins change.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLIENTS = HERE.parents[1] / ".venv-clients"
NODE = HERE / "node"


def install(pins: Path, stamp: Path, run: Callable[[], None]) -> None:
    """Install what ``pins`` names, unless ``stamp`` tells that this was done."""
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return
    run()
    stamp.write_text(pins.read_text())


def call(*command: str | Path, cwd: Path = HERE) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def python_clients() -> Path:
    """The directory of ``python`` and ``llm``, with the Python clients installed."""
    pins = HERE / "requirements.txt"

    def run() -> None:
        call(sys.executable, "-m", "venv", "--clear", CLIENTS)
        # The pins are complete; leaving out the resolver and the compiler saves a minute.
        call(CLIENTS / "bin/pip", "install", "--no-deps", "--no-compile", "--quiet", "--requirement", pins)

    install(pins, CLIENTS / ".installed", run)
    return CLIENTS / "bin"


@pytest.fixture(scope="session")
def node_clients() -> Path:
    """The directory from which node finds the JavaScript client."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    install(NODE / "package-lock.json", NODE / "node_modules/.installed", lambda: call("npm", "ci", cwd=NODE))
    return NODE
