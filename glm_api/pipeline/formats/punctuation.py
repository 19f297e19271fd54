"""Convert punctuation in the answers of ChatGLM-6B and ChatGLM2-6B.

Their ``process_response`` (modeling_chatglm.py) replaces each of ``,!:;?`` next to a Chinese character by its
full-width mark. This does the same to a stream. A mark waits only when the character after it must decide.
"""

from __future__ import annotations

import re

_FULL_WIDTH = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
_MARK = re.compile("[,!:;?]")
_MARK_NEXT_TO_CHINESE = re.compile("(?<=[\u4e00-\u9fff])[,!:;?]|[,!:;?](?=[\u4e00-\u9fff])")


class ChinesePunctuation:
    """Converts the marks of one answer."""

    def __init__(self) -> None:
        self._mark = ""
        self._last = ""

    def feed(self, text: str) -> str:
        """Return the converted text, without a mark at its end about which the next character decides."""
        if not text:
            return ""
        if not self._mark and not _MARK.search(text):
            self._last = text[-1]
            return text
        context = self._last
        text = self._mark + text
        rewritten = _MARK_NEXT_TO_CHINESE.sub(lambda mark: _FULL_WIDTH[mark.group()], context + text)[len(context) :]
        self._mark = rewritten[-1] if rewritten[-1] in _FULL_WIDTH else ""
        if self._mark:
            rewritten = rewritten[:-1]
            self._last = text[-2] if len(text) > 1 else context
        else:
            self._last = text[-1]
        return rewritten

    def flush(self) -> str:
        """Return the mark that was held back, unchanged: nothing follows it."""
        mark, self._mark = self._mark, ""
        return mark
