"""Registers the fixtures of `tests.support` for all tests, and says which tests are slow."""

from pathlib import Path

import pytest

# Before they import each other, so that the assertions in all of them tell what they compared.
pytest.register_assert_rewrite("tests.support")

pytest_plugins = [
    "tests.support.client",
    "tests.support.listener",
    "tests.support.model_files.fixtures",
    "tests.support.nginx",
    "tests.support.programs",
    "tests.support.server",
    "tests.support.upstream.fixtures",
]

# `make check` leaves out what these hold: servers, children, browsers and clients are started for them.
SLOW = (
    "benchmarks",
    "clients",
    "deploy",
    "hub",
    "pages",
    "pipeline/test_child_process.py",
    "pipeline/test_pipeline.py",
    "pipeline/worker/test_main.py",
    "pipeline/worker/chatglm_cpp/test_structured_answers.py",
    "pipeline/worker/llama_cpp/test_repacked_answers.py",
    "server",
    "setup/test_boot.py",
    "support/gguf",
    "upstream/test_llama_server.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests."""
    slow = tuple(Path(__file__).parent / name for name in SLOW)
    for item in items:
        if any(item.path.is_relative_to(place) for place in slow):
            item.add_marker("slow")
