"""What is installed is pinned: by `make lock`, with hashes, the same versions everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "requirements.in"
ON_TOP = [ROOT / f"requirements-{name}.in" for name in ("hf", "dev", "bench")]
FILES = [SERVER, *ON_TOP, ROOT / "tests" / "clients" / "requirements.in"]
EACH = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT).with_suffix("")))


def pins(file: Path) -> dict[str, str]:
    """The version of each package in the .txt file that belongs to a .in file."""
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", file.with_suffix(".txt").read_text(), re.MULTILINE))


@EACH
def test_what_is_named_is_pinned(file: Path) -> None:
    named = set(re.findall(r"^([a-z0-9][a-z0-9-]*)", file.read_text(), re.MULTILINE))
    assert named
    assert named <= pins(file).keys(), "make lock"


@EACH
def test_every_pin_has_a_hash_and_no_address(file: Path) -> None:
    lines = [line for line in file.with_suffix(".txt").read_text().splitlines() if not line.lstrip().startswith("#")]
    requirements = "\n".join(lines).replace("\\\n", "").splitlines()
    assert requirements
    for requirement in requirements:
        assert re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^;]+?)? ( +--hash=sha256:[0-9a-f]{64} ?)+", requirement)


@pytest.mark.parametrize("file", ON_TOP, ids=lambda file: file.stem)
def test_what_comes_on_top_changes_no_version_of_the_server(file: Path) -> None:
    assert pins(SERVER).items() <= pins(file).items()
