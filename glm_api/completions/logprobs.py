"""The log-probabilities of tokens, in the shape of text completions: a list for each property of the tokens."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields

from glm_api.api.logprobs import finite
from glm_api.pipeline.frames import TokenLogprob

# A text may show something else for a token, such as U+FFFD. The next token is looked for so many bytes further on.
LONGEST_GAP = 64

Lists = dict[str, list[Any]]
_utf8_decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Echo:
    """The prompt in front of an answer. ``first`` is the text of its first token if its tokens are to be told."""

    text: str = ""
    first: str | None = None


class LogprobsSchema(Schema):
    """The log-probabilities of the tokens of a text; each list has an entry for each token."""

    tokens = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Texts; one that is no whole character as `bytes:` and `\\xNN`."},
    )
    token_logprobs = fields.List(
        fields.Float(allow_none=True),
        required=True,
        metadata={"description": "Natural logarithms; null for the first token of a prompt, -9999 for probability 0."},
    )
    top_logprobs = fields.List(
        fields.Dict(keys=fields.String(), values=fields.Float(), allow_none=True),
        required=True,
        metadata={"description": "The likeliest tokens in each place, and the token itself."},
    )
    text_offset = fields.List(
        fields.Integer(), required=True, metadata={"description": "Where tokens begin in the text, in characters."}
    )


def of_prompt(echo: Echo, logprobs: Sequence[TokenLogprob]) -> Lists:
    """Return the lists for the tokens of a prompt. ``logprobs`` begin with the second: nothing precedes the first."""
    first = echo.first or ""
    others = _lists(logprobs)
    return {
        "tokens": [first, *others["tokens"]],
        "token_logprobs": [None, *others["token_logprobs"]],
        "top_logprobs": [None, *others["top_logprobs"]],
        "text_offset": offsets(echo.text, [first.encode(), *(entry.piece for entry in logprobs)]),
    }


def of_answer(text: str, logprobs: Sequence[TokenLogprob], begin: int) -> Lists:
    """Return the lists for the tokens of ``text``, which begins at the character ``begin``."""
    found = offsets(text, [entry.piece for entry in logprobs])
    return {**_lists(logprobs), "text_offset": [begin + offset for offset in found]}


def _lists(logprobs: Sequence[TokenLogprob]) -> Lists:
    return {
        "tokens": [_shown(entry.piece) for entry in logprobs],
        "token_logprobs": [finite(entry.logprob) for entry in logprobs],
        "top_logprobs": [_top(entry) for entry in logprobs],
    }


def _top(entry: TokenLogprob) -> dict[str, float]:
    found: dict[str, float] = {}
    for _, piece, logprob in [*entry.top, (entry.id, entry.piece, entry.logprob)]:
        # Of several tokens with the same text the first is the likeliest.
        found.setdefault(_shown(piece), finite(logprob))
    return found


def _shown(piece: bytes) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + piece.decode(errors="backslashreplace")


def offsets(text: str, pieces: Iterable[bytes]) -> list[int]:
    """Return where ``pieces`` begin in ``text``, in characters.

    A piece that begins inside a character has the place of that character. One that the text does not show, such as a
    special token, has the place where the text goes on. The space in front of the first word may be missing.
    """
    data = text.encode()
    decode = _utf8_decoder().decode
    found: list[int] = []
    at = characters = 0
    for piece in pieces:
        word = piece.removeprefix(b" ")
        # The next space further on may be any space.
        further = LONGEST_GAP if word else 0
        for wanted, gap in ((piece, 0), (word, 0), (piece, further), (word, further)):
            begin = data.find(wanted, at, at + gap + len(wanted)) if wanted else -1
            if begin >= 0:
                characters += len(decode(data[at:begin]))
                at = begin + len(wanted)
                break
        found.append(characters)
        if begin >= 0:
            characters += len(decode(data[begin:at]))
    return found
