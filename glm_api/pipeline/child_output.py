"""Leave out of what a child prints what llama.cpp tells of a grammar that an answer does not fit.

It prints the state of its parser then, in some twenty lines: the text of the answer, and the grammar.
"""

from __future__ import annotations

import re

REPLACED = "llama.cpp has chosen a token that the grammar of an answer does not admit."

_FAULT = re.compile(r"(?:Warning: |.* llg error: )?Parser Error: |.* llg error: ")
_BEGIN, _END = "<state>", "</grammar>"
# What does not end is not of this kind.
_LONGEST = 10_000


class WithoutAnswers:
    """Filters the lines of one child. They have no white space around them."""

    def __init__(self) -> None:
        self._left = 0

    def feed(self, line: str) -> str:
        """Return what to log of the next line; empty for nothing."""
        if self._left:
            # No line of a grammar begins so: each begins with the name of a rule.
            self._left = 0 if line.startswith(_END) else self._left - 1
            return ""
        if line.startswith(_BEGIN):
            self._left = _LONGEST
            return ""
        return REPLACED if _FAULT.match(line) else line
