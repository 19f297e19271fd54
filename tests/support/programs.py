"""What the tests start and a machine may lack: programs, and the environments of the clients that they try.

One rule holds for all of them. A test takes the fixture of what it needs. If that is missing, the test is skipped
before anything is started for it, with the line that installs it; where `CI` is set, the test fails. The last lines of
a run say what was not tested.

`python -m tests.support.programs` prints the Debian packages of all that is missing.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Program:
    """A program by its ``command``, and the Debian packages that have it."""

    command: str
    packages: str

    def find(self) -> str | None:
        """Its path, if it is installed. Debian's nginx is where an ordinary user's PATH does not look."""
        return shutil.which(self.command) or shutil.which(self.command, path="/usr/sbin")

    @property
    def remedy(self) -> str:
        """The line that installs it."""
        return f"{self.command} is missing: apt-get install {self.packages}"


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages that ``make`` installs; ``stamp`` is the file that it makes last."""

    name: str
    stamp: Path

    def find(self) -> str | None:
        """The directory of the stamp, if all is installed."""
        return str(self.stamp.parent) if self.stamp.exists() else None

    @property
    def remedy(self) -> str:
        """The line that installs it."""
        return f"{self.name} are missing: make {self.stamp.relative_to(ROOT)}"


# By the name of the fixture.
NEEDS: dict[str, Program | Environment] = {
    "nginx": Program("nginx", "nginx"),
    "openssl": Program("openssl", "openssl"),
    "prometheus": Program("prometheus", "prometheus"),
    "promtool": Program("promtool", "prometheus"),
    "systemd_analyze": Program("systemd-analyze", "systemd"),
    "curl": Program("curl", "curl"),
    # The pages are looked at in Chinese too.
    "chromium": Program("chromium", "chromium fonts-noto-cjk"),
    "npm": Program("npm", "npm"),
    "node": Program("node", "nodejs"),
    "python_packages": Environment("the Python clients", ROOT / ".venv-clients" / ".installed"),
    "node_packages": Environment("the JavaScript clients", ROOT / "tests/clients/node/node_modules/.installed"),
}

_skipped = pytest.StashKey[Counter[str]]()


def _provide(name: str) -> Any:
    """The fixture of this name: the path of what is needed."""

    @pytest.fixture(scope="session", name=name)
    def path() -> str:
        found = NEEDS[name].find()
        assert found is not None, NEEDS[name].remedy
        return found

    return path


nginx = _provide("nginx")
openssl = _provide("openssl")
prometheus = _provide("prometheus")
promtool = _provide("promtool")
systemd_analyze = _provide("systemd_analyze")
curl = _provide("curl")
chromium = _provide("chromium")
npm = _provide("npm")
node = _provide("node")
python_packages = _provide("python_packages")
node_packages = _provide("node_packages")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose fixtures, or theirs, need what is missing."""
    names: list[str] = getattr(item, "fixturenames", [])
    # In the order of the table: without npm its packages are no news.
    for name, need in NEEDS.items():
        if name in names and need.find() is None:
            if os.environ.get("CI"):
                pytest.fail(need.remedy, pytrace=False)
            item.config.stash.setdefault(_skipped, Counter())[need.remedy] += 1
            pytest.skip(need.remedy)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Say behind all else what was not tested."""
    yield
    skipped = config.stash.get(_skipped, Counter())
    if skipped:
        terminalreporter.section("not tested on this machine", yellow=True)
        for remedy, count in skipped.items():
            terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'}: {remedy}")
        terminalreporter.line("`make test-tools` installs all programs that the tests start (Debian, Ubuntu).")


def missing_packages() -> list[str]:
    """The Debian packages of all programs that are missing."""
    found = {
        package
        for need in NEEDS.values()
        if isinstance(need, Program) and need.find() is None
        for package in need.packages.split()
    }
    # A package without a command.
    if not next(Path("/usr/share/fonts").rglob("NotoSansCJK*"), None):
        found.add("fonts-noto-cjk")
    return sorted(found)


if __name__ == "__main__":
    print(*missing_packages())
