"""Registers the fixtures of `tests.support` for all tests."""

import pytest

# Before they import each other, so that the assertions in all of them tell what they compared.
pytest.register_assert_rewrite("tests.support")

pytest_plugins = [
    "tests.support.client",
    "tests.support.listener",
    "tests.support.model_files.fixtures",
    "tests.support.nginx",
    "tests.support.server",
    "tests.support.upstream.fixtures",
]
