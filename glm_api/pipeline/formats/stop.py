"""Stop strings: found even if several tokens share one, and never part of the answer."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts one answer at the earliest stop string in it.

    Only text that may be the beginning of a stop string is held back. Each stop string is followed with the
    Knuth-Morris-Pratt automaton, so a character costs the same however long and repetitive the strings are.
    ``found`` tells that the answer is over; text fed after that is ignored.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = [(string, _borders(string)) for string in strings if string]
        self._first_characters = frozenset(string[0] for string, _ in self._strings)
        self._matched: list[int] = [0] * len(self._strings)
        self._held = ""
        self._cut: int | None = None  # where in _held the earliest whole stop string begins
        self.found = False

    def feed(self, text: str) -> str:
        """The text that no stop string can reach any more."""
        if self.found:
            return ""
        if not self._held and self._first_characters.isdisjoint(text):
            return text
        start = len(self._held)
        held = self._held = self._held + text
        undecided = len(held)
        for index, (string, borders) in enumerate(self._strings):
            matched = self._matched[index]
            for position in range(start, len(held)):
                character = held[position]
                while matched and string[matched] != character:
                    matched = borders[matched - 1]
                if string[matched] == character:
                    matched += 1
                    if matched == len(string):
                        begin = position + 1 - matched
                        self._cut = begin if self._cut is None else min(self._cut, begin)
                        matched = 0  # any later occurrence begins behind this one
                        break
            self._matched[index] = matched
            undecided = min(undecided, len(held) - matched)
        if self._cut is not None and undecided >= self._cut:
            return self._stop()
        # An earlier stop string may still be under way in front of the cut.
        self._held = held[undecided:]
        if self._cut is not None:
            self._cut -= undecided
        return held[:undecided]

    def flush(self) -> str:
        """What is still held back; the answer ends here."""
        if self._cut is not None:
            return self._stop()
        held, self._held = self._held, ""
        self._matched = [0] * len(self._strings)
        return held

    def _stop(self) -> str:
        self.found = True
        released, self._held = self._held[: self._cut], ""
        return released


def _borders(string: str) -> list[int]:
    """For each prefix of ``string`` the length of the longest proper prefix that also ends it."""
    borders = [0] * len(string)
    length = 0
    for position in range(1, len(string)):
        while length and string[position] != string[length]:
            length = borders[length - 1]
        if string[position] == string[length]:
            length += 1
        borders[position] = length
    return borders
