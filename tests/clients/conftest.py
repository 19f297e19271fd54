"""The clients that people use.

They are in environments of their own, which `make test` installs: .venv-clients, .venv-clients-openai-2 for those that
need an older openai, and node_modules beside package.json.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def python_clients(python_packages: str) -> Path:
    """The folder of ``python`` and ``llm``, with the Python clients installed."""
    return Path(python_packages) / "bin"


@pytest.fixture(scope="session")
def openai_2_clients(openai_2_packages: str) -> Path:
    """The folder of ``python``, with the clients installed that need version 2 of OpenAI's SDK."""
    return Path(openai_2_packages) / "bin"


@pytest.fixture(scope="session")
def node_clients(npm: str, node: str, node_packages: str) -> Path:
    """The folder from which node finds the JavaScript client."""
    return Path(node_packages).parent
