"""Tell what a model thinks from what it answers, where the prompt has begun its thinking.

llama.cpp does so for templates that it knows. Of others, such as that of GLM-Z1, it gives all as one text.
"""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"


class ThinkingSplitter:
    """Splits the text of an answer, piece by piece. The result does not depend on where the pieces are cut."""

    def __init__(self) -> None:
        self._held = ""
        self._over = False

    def feed(self, text: str) -> tuple[str, str]:
        """Return the thinking and the text that are certain now."""
        if self._over:
            return "", text
        self._held += text
        thought, end, rest = self._held.partition(END)
        if end:
            self._over, self._held = True, ""
            return thought, rest
        # It may be the beginning of the end.
        kept = next((size for size in range(len(END) - 1, 0, -1) if self._held.endswith(END[:size])), 0)
        thought, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return thought, ""

    def flush(self) -> str:
        """Return the thinking that is still held back: nothing follows."""
        held, self._held = self._held, ""
        return held
