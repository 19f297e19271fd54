"""README.md tells the truth about settings and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config import ALIASES, VARIABLES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EACH = pytest.mark.parametrize("text", [README, CHINESE, CONTRIBUTING], ids=["en", "zh", "contributing"])


def settings_table() -> list[str]:
    return [f"| `{name}` | {row.values} | {row.default} | {row.help} |" for name, row in VARIABLES.items()]


def test_the_settings_table_matches_the_code() -> None:
    table = [line for line in README.splitlines() if line.startswith("| `GLM_")]
    assert table == settings_table(), "README.md should have:\n" + "\n".join(settings_table())


def test_the_readme_tells_the_original_servers_names() -> None:
    for alias in ALIASES:
        assert f"`{alias}`" in README


@EACH
def test_every_make_target_that_is_named_exists(text: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?<!install )\bmake ([a-z-]+)", text))
    assert named
    assert named <= targets


@EACH
def test_every_file_that_is_linked_exists(text: str) -> None:
    links = re.findall(r"\]\((?!http|#)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_chinese_settings_table_has_the_same_rows_and_numbers() -> None:
    def rows(table: list[str]) -> list[tuple[str, list[str]]]:
        cells = (re.split(r" ?(?<!\\)\| ?", line) for line in table)
        return [(name, re.findall(r"\d+", f"{values} {default}")) for _, name, values, default, *_ in cells]

    table = [line for line in CHINESE.splitlines() if line.startswith("| `GLM_")]
    assert rows(table) == rows(settings_table())


def test_the_chinese_readme_names_settings_that_exist() -> None:
    assert set(re.findall(r"GLM_[A-Z_]+", CHINESE)) <= VARIABLES.keys()


def test_both_readmes_have_the_same_sections_and_code() -> None:
    def outline(text: str) -> list[str]:
        """Each heading as its level, and each code block without the texts of its messages."""
        parts = re.findall(r"^#+(?= )|^```.*?^```", text, flags=re.MULTILINE | re.DOTALL)
        return [re.sub(r'"content": "[^"]*"', "", part) for part in parts]

    assert outline(CHINESE) == outline(README)
    assert len(outline(README)) > 10


def test_both_readmes_send_readers_to_the_same_pages() -> None:
    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}

    assert links(CHINESE) == links(README)


def test_every_file_in_the_contributors_guide_exists() -> None:
    named = set(re.findall(r"`((?:glm_api|tests|docs|\.ci)/[\w./-]+)`", CONTRIBUTING)) - {"glm_api/NAME", "tests/NAME"}
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []
    for module, name in re.findall(r"`(\w+)` in `([\w/]+\.py)`", CONTRIBUTING):
        assert re.search(rf"\b{module}\b", (ROOT / name).read_text()), f"{module} in {name}"
