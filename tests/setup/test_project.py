"""What pyproject.toml says of the project is so."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.version import Version

import glm_api

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_the_version_has_one_source() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "glm_api.__version__"}
    assert str(Version(glm_api.__version__)) == glm_api.__version__


def test_the_files_that_are_named_exist() -> None:
    for name in (PROJECT["readme"], *PROJECT["license-files"]):
        assert (ROOT / name).is_file()
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    makefile = (ROOT / "Makefile").read_text()
    assert f"Python {oldest} or newer is needed" in makefile
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in makefile
    assert f"--python-version {oldest} " in makefile
