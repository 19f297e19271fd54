"""Write the tables of docs/compatibility.md from `glm_api.api.parameter_table`; ``make docs`` runs it.

A table stands behind a comment with the name of its rows and ends with the next empty line.
"""

from __future__ import annotations

import re
from pathlib import Path

from glm_api.api import parameter_table

PAGE = Path(__file__).with_name("compatibility.md")
_TABLE = re.compile(r"(<!-- ([A-Z]+) -->\n)(?:\|.*\n)*")


def with_tables(page: str) -> str:
    """Return ``page`` with all of its tables as `parameter_table` has them."""

    def table(match: re.Match[str]) -> str:
        rows = getattr(parameter_table, match[2])
        return match[1] + "".join(f"{line}\n" for line in parameter_table.markdown(rows))

    return _TABLE.sub(table, page)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
