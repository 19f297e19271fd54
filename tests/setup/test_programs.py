"""What the tests need and a machine may lack: skipped before anything starts, failed in CI, and told at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import programs

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest

@pytest.fixture(scope="session")
def server():
    raise AssertionError("the server was started")

@pytest.fixture
def proxy(nginx):
    return nginx

def test_one(server, {program}): pass
def test_two(server, {fixture}): pass
def test_three(): pass
"""


def run(folder: Path, *, program: str = "curl", fixture: str = "proxy", **environment: str) -> tuple[int, list[str]]:
    """pytest's exit status and output where none of the programs is found."""
    (folder / "test_it.py").write_text(TESTS.format(program=program, fixture=fixture))
    # /usr/sbin is looked into whatever PATH says.
    (folder / "conftest.py").write_text("import shutil\nshutil.which = lambda *_, **__: None\n")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.programs", "-p", "no:cacheprovider", "-ra", str(folder)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.returncode, result.stdout.splitlines()


def test_what_is_missing_is_skipped_before_anything_starts_and_told_at_the_end(tmp_path: Path) -> None:
    status, lines = run(tmp_path)
    assert status == 0
    *_, first, second, how, summary = lines
    assert first == "1 test: curl is missing: apt-get install curl"
    assert second == "1 test: nginx is missing: apt-get install nginx"
    assert how.startswith("`make test-tools` installs")
    assert "1 passed, 2 skipped" in summary


def test_what_is_missing_fails_in_ci(tmp_path: Path) -> None:
    status, lines = run(tmp_path, CI="1")
    assert status == 1
    assert "1 passed, 2 errors" in lines[-1]
    assert "nginx is missing: apt-get install nginx" in "\n".join(lines)
    assert "the server was started" not in "\n".join(lines)


def test_programs_are_counted_together(tmp_path: Path) -> None:
    _, lines = run(tmp_path, program="chromium", fixture="chromium")
    assert "2 tests: chromium is missing: apt-get install chromium fonts-noto-cjk" in lines


def test_clients_are_what_make_installs() -> None:
    assert {"python_packages", "openai_2_packages", "node_packages"} <= programs.NEEDS.keys()
    makefile = (ROOT / "Makefile").read_text()
    lines = re.findall(r"^\w*CLIENTS := (.*)$", makefile, re.MULTILINE)
    installed = {stamp for line in lines for stamp in line.split()}
    needs = [need for need in programs.NEEDS.values() if isinstance(need, programs.Environment)]
    assert {str(need.stamp.relative_to(ROOT)) for need in needs} == installed
    for need in needs:
        assert need.remedy.endswith(f"make {need.stamp.relative_to(ROOT)}")


@pytest.mark.parametrize("name", programs.NEEDS)
def test_each_need_has_its_fixture(name: str) -> None:
    assert hasattr(programs, name)


def test_the_packages_of_what_is_missing_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("shutil.which", lambda command, path=None: None if command in ("promtool", "nginx") else "/x")
    assert set(programs.missing_packages()) - {"fonts-noto-cjk"} == {"nginx", "prometheus"}
