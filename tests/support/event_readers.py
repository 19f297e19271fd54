"""Readers of server-sent events that follow the rules of clients which the tests cannot run."""

from __future__ import annotations

import json
from typing import Any


class ReadingFailed(Exception):
    """The client would report an error to its user."""


def openai_go(stream: bytes, *, passes_empty_events: bool) -> list[Any]:
    """Return what openai-go reads from a stream: the JSON of each event until ``[DONE]``. Raises `ReadingFailed`.

    ``passes_empty_events``: as its older versions do, which take every empty line for the end of an event.
    """
    found: list[Any] = []
    data = b""
    *lines, _ = stream.split(b"\n")
    for line in lines:
        line = line.removesuffix(b"\r")
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                data += value.removeprefix(b" ") + b"\n"
        elif data or passes_empty_events:
            if data.startswith(b"[DONE]"):
                return found
            try:
                payload = json.loads(data)
            except ValueError:
                raise ReadingFailed(f"unexpected end of JSON input: {data!r}") from None
            if "error" in payload:
                raise ReadingFailed(payload["error"])
            found.append(payload)
            data = b""
    return found


def line_by_line(stream: bytes) -> list[Any]:
    """Return what the readers of many scripts find: the JSON of each line that begins with ``data: ``."""
    lines = [line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]
