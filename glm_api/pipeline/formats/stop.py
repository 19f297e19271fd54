"""Stop strings: found even if several tokens share one, and never part of the answer."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts one answer at the earliest stop string in it.

    Only text that may be the beginning of a stop string is held back. ``found`` is the one that ended the answer, empty
    before; text fed after that is ignored.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = [string for string in strings if string]
        self._held = ""
        self.found = ""

    def feed(self, text: str) -> str:
        """Return the text that cannot belong to a stop string any more."""
        if self.found:
            return ""
        self._held += text
        undecided = min((_beginning(string, self._held) for string in self._strings), default=len(self._held))
        match, _ = self._match()
        # A stop string that may still be under way in front of this one would be the earlier one.
        if match is not None and match <= undecided:
            return self.flush()
        released, self._held = self._held[:undecided], self._held[undecided:]
        return released

    def flush(self) -> str:
        """Return the text that is still held back, up to the first stop string in it: the answer ends here."""
        match, found = self._match()
        self.found = self.found or found
        released, self._held = self._held[:match], ""
        return released

    def _match(self) -> tuple[int | None, str]:
        """Return where the earliest whole stop string begins in the text that is held back, and that string."""
        matches = [(at, string) for string in self._strings if (at := self._held.find(string)) >= 0]
        return min(matches, default=(None, ""), key=lambda match: match[0])


def _beginning(string: str, text: str) -> int:
    """Return where the longest end of ``text`` begins that is a beginning of ``string``; if none is, the text's end."""
    at = text.find(string[0], max(0, len(text) - len(string) + 1))
    while at >= 0 and not string.startswith(text[at:]):
        at = text.find(string[0], at + 1)
    return at if at >= 0 else len(text)
