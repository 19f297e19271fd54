"""Read an answer that is only text: a raw completion, or a message of a family without tools."""

from __future__ import annotations

from glm_api.pipeline.formats.base import Tokenizer
from glm_api.pipeline.formats.detokenizer import Detokenizer
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.frames import Event, FinishReason, Text


class TextReader:
    """An `AnswerReader` for text alone."""

    in_call = False

    def __init__(self, tokenizer: Tokenizer, text_filter: TextFilter) -> None:
        self.reason: FinishReason | None = None
        self._end_ids = tokenizer.end_ids
        self._detokenizer = Detokenizer(tokenizer)
        self._filter = text_filter
        self._ids: list[int] = []

    @property
    def stop_string(self) -> str:
        return self._filter.stop_string

    def feed(self, token: int) -> list[Event]:
        if self.reason is not None:
            return []
        if token in self._end_ids:
            self.reason = "stop"
            return self.finish()
        self._ids.append(token)
        text = self._filter.feed(self._detokenizer.feed(token))
        if self._filter.stopped:
            self.reason = "stop"
            return self._release(text)
        return self._release(text) if text else []

    def finish(self) -> list[Event]:
        text = self._filter.flush()
        if self._filter.stopped:
            self.reason = "stop"
        return self._release(text) if text or self._ids else []

    def _release(self, text: str) -> list[Event]:
        ids, self._ids = self._ids, []
        return [Text(text, ids)]
