"""The log-probabilities of an answer's ids, from their choice to the events that name the ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from glm_api.pipeline.frames import Event, Text, TokenLogprob


class Pieces(Protocol):
    """The part of the tokenizer that log-probabilities need."""

    def show(self, ids: list[int]) -> str:
        """Return the text of ``ids``, special tokens shown."""

    def decode(self, ids: list[int]) -> bytes:
        """Return the bytes that ``ids`` add to a text."""


class LogprobQueue:
    """Holds the log-probabilities of ids until an event names the ids."""

    def __init__(self) -> None:
        self._logprobs: deque[tuple[int, TokenLogprob | None]] = deque()

    def put(self, logprob: TokenLogprob) -> None:
        """Take the log-probability of the next id."""
        self._logprobs.append((logprob.id, logprob))

    def skip(self, token: int) -> None:
        """Take note that the log-probability of the next id, ``token``, is not known."""
        self._logprobs.append((token, None))

    def rest(self) -> list[Event]:
        """Return what is known of the ids that no event names: the end of a raw completion."""
        rest = [logprob for _, logprob in self._logprobs if logprob is not None]
        self._logprobs.clear()
        return [Text("", [], rest)] if rest else []

    def add_to(self, events: list[Event]) -> list[Event]:
        """Add the log-probabilities of their ids to the texts among ``events``, which come in the order of the ids."""
        if not self._logprobs:
            return events
        return [self._with_logprobs(event) for event in events]

    def _with_logprobs(self, event: Event) -> Event:
        ids: list[int] = getattr(event, "ids", [])
        if not ids:
            return event
        found = []
        for token in ids:
            # The ids of the end of an answer, or of a turn, are in no event.
            while (entry := self._logprobs.popleft())[0] != token:
                pass
            if entry[1] is not None:
                found.append(entry[1])
        return Text(event.text, ids, found) if isinstance(event, Text) and event.text else event


def named(pieces: Pieces, token: int, logprob: float, top: Iterable[tuple[int, float]]) -> TokenLogprob:
    """Return the log-probability of ``token``, and those of the likeliest ids, with the bytes of the tokens."""

    def piece(id: int) -> bytes:
        return pieces.decode([id]) or pieces.show([id]).encode()

    return TokenLogprob(token, piece(token), logprob, [(id, piece(id), value) for id, value in top])
