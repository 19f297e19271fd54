"""A tokenizer that makes ids for any text of a test, for tests that need no model."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from glm_api.pipeline.formats.base import AnswerReader
from glm_api.pipeline.frames import Event, Text, ToolArguments, ToolCallStarted

_SPECIALS = "[gMASK] sop system user assistant observation endoftext begin_of_image end_of_image".split()


class ScriptedTokenizer:
    """A `Tokenizer` that gives each new text or run of bytes an id of its own. `encode` makes one id a character."""

    def __init__(self) -> None:
        self._specials = {name: id for id, name in enumerate(_SPECIALS)}
        self._pieces: list[bytes] = [b""] * len(_SPECIALS)
        self._ids: dict[bytes, int] = {}
        self.end_ids = frozenset(self._specials[name] for name in ("user", "observation", "endoftext"))
        self.prefix = [self._specials["[gMASK]"], self._specials["sop"]]

    def token(self, piece: str | bytes) -> int:
        data = piece.encode() if isinstance(piece, str) else piece
        if data not in self._ids:
            self._ids[data] = len(self._pieces)
            self._pieces.append(data)
        return self._ids[data]

    def tokens(self, pieces: Iterable[str | bytes]) -> list[int]:
        """Return an id for each piece; ``<|name|>`` is the special id of that name."""
        return [
            self._specials[piece[2:-2]]
            if isinstance(piece, str) and piece[2:-2] in self._specials
            else self.token(piece)
            for piece in pieces
        ]

    def show(self, ids: Iterable[int]) -> str:
        names = {id: f"<|{name}|>" for name, id in self._specials.items()}
        return b"".join(names[id].encode() if id in names else self._pieces[id] for id in ids).decode()

    def encode(self, text: str) -> list[int]:
        return [self.token(character) for character in text]

    def decode(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._pieces[id] for id in ids)

    def role(self, name: str) -> int:
        return self._specials[name]

    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        return []

    def knows(self, token: int) -> bool:
        return token < len(self._pieces)

    def refusal(self, grammar: str) -> str | None:
        return None


@st.composite
def splits(draw: st.DrawFn, data: st.SearchStrategy[str]) -> list[bytes]:
    """Draw a text's bytes, cut into pieces anywhere, inside characters too."""
    whole = draw(data).encode()
    cuts = draw(st.lists(st.integers(0, len(whole)), max_size=8).map(sorted))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True) if start < end]


def whole_characters(data: bytes) -> str:
    """Decode ``data`` with invalid bytes as U+FFFD, but without an incomplete character at its end."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def read(reader: AnswerReader, ids: Iterable[int]) -> list[Event]:
    """Return all events of an answer, the end included."""
    events = [event for id in ids for event in reader.feed(id)]
    return events + reader.finish()


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def calls_of(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return the calls as (name, arguments), in the order of their indexes."""
    names: list[str] = []
    arguments: list[str] = []
    for event in events:
        if isinstance(event, ToolCallStarted):
            assert event.index == len(names)
            names.append(event.name)
            arguments.append("")
        elif isinstance(event, ToolArguments):
            arguments[event.index] += event.text
    return list(zip(names, arguments, strict=True))


def ids_of(events: Iterable[Event]) -> list[int]:
    """Return the ids in the events, in order."""
    return [id for event in events if isinstance(event, Text | ToolCallStarted | ToolArguments) for id in event.ids]
