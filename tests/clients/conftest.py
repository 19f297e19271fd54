"""The clients that people have.

They live in environments of their own, .venv-clients and node_modules beside package.json, which `make test` installs.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def python_clients(python_packages: str) -> Path:
    """The directory of ``python`` and ``llm``, with the Python clients installed."""
    return Path(python_packages) / "bin"


@pytest.fixture(scope="session")
def node_clients(npm: str, node: str, node_packages: str) -> Path:
    """The directory from which node finds the JavaScript client."""
    return Path(node_packages).parent
