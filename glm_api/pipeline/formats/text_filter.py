"""Filter the text of an answer: remove leading white space, convert punctuation, find stop strings."""

from __future__ import annotations

from collections.abc import Sequence

from glm_api.pipeline.formats.punctuation import ChinesePunctuation
from glm_api.pipeline.formats.stop import StopStrings


class TextFilter:
    """Filters the text of one answer, piece by piece. The result does not depend on where the pieces are cut."""

    def __init__(self, stop: Sequence[str], *, strip: bool, punctuation: bool) -> None:
        """``strip`` removes white space in front; ``punctuation`` converts marks (`ChinesePunctuation`)."""
        self.begun = not strip
        self._punctuation = ChinesePunctuation() if punctuation else None
        self._stop = StopStrings(stop) if stop else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found; there is no more text then."""
        return bool(self.stop_string)

    @property
    def stop_string(self) -> str:
        """The stop string that was found; empty if none was."""
        return self._stop.found if self._stop is not None else ""

    def feed(self, text: str) -> str:
        """Return the text that may be shown now."""
        if not self.begun:
            text = text.lstrip()
            self.begun = bool(text)
        if self._punctuation is not None:
            text = self._punctuation.feed(text)
        if self._stop is not None and text:
            text = self._stop.feed(text)
        return text

    def flush(self) -> str:
        """Return the text that is still held back: no text follows, or a tool call does."""
        text = ""
        if self._punctuation is not None:
            text = self._punctuation.flush()
        if self._stop is not None:
            text = self._stop.feed(text) + self._stop.flush()
        return text
