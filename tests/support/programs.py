"""What the tests need and a machine may lack: programs, and the environments of the clients under test.

One rule holds for all of them. A test takes the fixture of what it needs. If that is missing, the test is skipped
before anything is started for it, and the message tells how to install it. If `CI` is set, the test fails instead. The
last lines of a run say what was not tested.

`python -m tests.support.programs` prints the Debian packages of all missing programs.
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
    """A program, by its ``command``, and the Debian packages that contain it."""

    command: str
    packages: str

    def find(self) -> str | None:
        """Return its path, if it is installed. Debian's nginx is in a folder that an ordinary user's PATH lacks."""
        return shutil.which(self.command) or shutil.which(self.command, path="/usr/sbin")

    @property
    def remedy(self) -> str:
        """The line that installs it."""
        return f"{self.command} is missing: apt-get install {self.packages}"


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages that ``make`` installs; ``stamp`` is the file that it writes last."""

    name: str
    stamp: Path

    def find(self) -> str | None:
        """Return the folder of the stamp, if all is installed."""
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
    # The tests look at the pages in Chinese too.
    "chromium": Program("chromium", "chromium fonts-noto-cjk"),
    "npm": Program("npm", "npm"),
    "node": Program("node", "nodejs"),
    "python_packages": Environment("the Python clients", ROOT / ".venv-clients" / ".installed"),
    "openai_2_packages": Environment("the clients for openai 2", ROOT / ".venv-clients-openai-2" / ".installed"),
    "node_packages": Environment("the JavaScript clients", ROOT / "tests/clients/node/node_modules/.installed"),
}

_skipped = pytest.StashKey[Counter[str]]()


def _provide(name: str) -> Any:
    """Return the fixture of this name, which is the path of what is needed."""

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
openai_2_packages = _provide("openai_2_packages")
node_packages = _provide("node_packages")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test if its fixtures, or fixtures of these, need something that is missing."""
    names: list[str] = getattr(item, "fixturenames", [])
    # The order of the table matters: if npm is missing, that explains why its packages are missing.
    for name, need in NEEDS.items():
        if name in names and need.find() is None:
            if os.environ.get("CI"):
                pytest.fail(need.remedy, pytrace=False)
            item.config.stash.setdefault(_skipped, Counter())[need.remedy] += 1
            pytest.skip(need.remedy)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Print after everything else what was not tested."""
    yield
    skipped = config.stash.get(_skipped, Counter())
    if skipped:
        terminalreporter.section("not tested on this machine", yellow=True)
        for remedy, count in skipped.items():
            terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'}: {remedy}")
        terminalreporter.line("`make test-tools` installs all programs that the tests start (Debian, Ubuntu).")


def missing_packages() -> list[str]:
    """Return the Debian packages of all missing programs."""
    found = {
        package
        for need in NEEDS.values()
        if isinstance(need, Program) and need.find() is None
        for package in need.packages.split()
    }
    # This package has no command.
    if not next(Path("/usr/share/fonts").rglob("NotoSansCJK*"), None):
        found.add("fonts-noto-cjk")
    return sorted(found)


if __name__ == "__main__":
    print(*missing_packages())
