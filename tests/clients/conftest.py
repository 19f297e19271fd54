"""The clients that people use.

They are in environments of their own, which `make test` installs: .venv-clients, and node_modules beside package.json.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def python_clients(python_packages: str) -> Path:
    """The folder of ``python`` and ``llm``, with the Python clients installed."""
    return Path(python_packages) / "bin"


@pytest.fixture(scope="session")
def node_clients(npm: str, node: str, node_packages: str) -> Path:
    """The folder from which node finds the JavaScript client."""
    return Path(node_packages).parent
