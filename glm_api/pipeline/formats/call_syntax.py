"""The body of a tool call, read while the model writes it: what follows the line with the tool's name."""

from __future__ import annotations

import json
import re
from typing import Protocol

from glm_api.pipeline.formats import python_call

INTERPRETER = "interpreter"


class CallBody(Protocol):
    """Reads one body. Arguments are given out as text of a JSON object, in one piece or in many."""

    certain: bool
    """The body is that of a call, beyond doubt."""

    complete: bool
    """The arguments are whole."""

    overrun: bool
    """Something other than white space follows the arguments."""

    source: str
    """The body as written, as long as it is not certain to be a call."""

    def feed(self, text: str) -> str:
        """The arguments that this text adds; empty while there are none."""

    def close(self) -> str:
        """The arguments that are still held back; the body is over."""


class CallSyntax(Protocol):
    """How a family writes calls."""

    def opens(self, text: str) -> bool | None:
        """Whether a body may begin like this (white space in front removed); None: too short to tell."""

    def names(self, tools: tuple[str, ...]) -> tuple[str, ...]:
        """The names that may head a call when the caller declared ``tools``."""

    def body(self, name: str, forced: bool) -> CallBody:
        """A reader for a body. ``forced``: the prompt has begun the call, so it is one whatever the model writes."""


class JsonSyntax:
    """GLM-4: a JSON object."""

    def opens(self, text: str) -> bool | None:
        return text.startswith("{") if text else None

    def names(self, tools: tuple[str, ...]) -> tuple[str, ...]:
        return tools

    def body(self, name: str, forced: bool) -> CallBody:
        return JsonBody()


class JsonBody:
    """Gives out a JSON object as it is written, and nothing behind it."""

    certain = True
    source = ""

    _STRUCTURE = re.compile(r'["\\{}\[\]]')

    def __init__(self) -> None:
        self.complete = False
        self.overrun = False
        self._depth = 0
        self._begun = False
        self._in_string = False
        self._escape = False

    def feed(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        end = self._scan(text)
        if self.complete and text[end:].strip():
            self.overrun = True
        return text[:end]

    def close(self) -> str:
        return ""

    def _scan(self, text: str) -> int:
        """Follow the brackets and strings of ``text``; how much of it belongs to the object."""
        if self.complete:
            return 0
        skip = 0
        if self._escape and text:
            self._escape, skip = False, 1
        for match in self._STRUCTURE.finditer(text):
            if match.start() < skip:
                continue
            character = match.group()
            if self._in_string:
                if character == "\\":
                    skip = match.end() + 1
                    self._escape = skip > len(text)
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.complete = True
                    return match.end()
        return len(text)


class PythonSyntax:
    """ChatGLM3: ``tool_call(...)`` in a Markdown fence; with the name ``interpreter``, code in a fence."""

    _OPENINGS = ("```", f"{python_call.FUNCTION}(", "{")

    def opens(self, text: str) -> bool | None:
        if text.startswith(self._OPENINGS):
            return True
        return None if any(opening.startswith(text) for opening in self._OPENINGS) else False

    def names(self, tools: tuple[str, ...]) -> tuple[str, ...]:
        return (*tools, INTERPRETER)

    def body(self, name: str, forced: bool) -> CallBody:
        return PythonBody(name, forced)


class PythonBody:
    """Holds a fenced call back until it is whole, then gives out its arguments at once."""

    _FENCE = "```"
    _OPENING_FENCE = re.compile(r"\s*```(?:python\b|py\b|json\b)?[ \t]*\n?")
    # Each closing fence is tried as the end, but a body of nothing but fences must not cost the square of its size.
    _MAX_TRIES = 8

    def __init__(self, name: str, forced: bool) -> None:
        self.certain = forced
        self.complete = False
        self.overrun = False
        self.source = ""
        self._name = name
        self._given = f"{self._FENCE}python\n{python_call.FUNCTION}(" if forced else ""
        self._tries = 0
        self._tried_to = 0

    def feed(self, text: str) -> str:
        if self.complete:
            self.overrun = self.overrun or bool(text.strip())
            return ""
        self.source += text
        if self._name == INTERPRETER or self._FENCE[0] not in text:
            return ""
        return self._try_closing_fences()

    def close(self) -> str:
        if self.complete:
            return ""
        body = self._given + self.source
        arguments = python_call.read_call(self._inside_fence(body), self._name)
        if arguments is None and self._name == INTERPRETER and body.lstrip().startswith(self._FENCE):
            arguments = self._read_code(body)
        if arguments is not None:
            self._accept()
            return arguments
        return self.source if self.certain else ""

    def _try_closing_fences(self) -> str:
        body = self._given + self.source
        opening = self._OPENING_FENCE.match(body)
        start = max(opening.end() if opening else 0, self._tried_to)
        while self._tries < self._MAX_TRIES and (fence := body.find(self._FENCE, start)) >= 0:
            self._tries += 1
            self._tried_to = start = fence + len(self._FENCE)
            arguments = python_call.read_call(body[opening.end() if opening else 0 : fence], self._name)
            if arguments is not None:
                self.overrun = bool(body[start:].strip())
                self._accept()
                return arguments
        return ""

    def _accept(self) -> None:
        self.certain = self.complete = True
        self.source = ""

    def _inside_fence(self, body: str) -> str:
        opening = self._OPENING_FENCE.match(body)
        return body[opening.end() if opening else 0 :].strip().removesuffix(self._FENCE)

    def _read_code(self, body: str) -> str | None:
        opening = self._OPENING_FENCE.match(body)
        code, closing, behind = body[opening.end() if opening else 0 :].rpartition(self._FENCE)
        if not closing or behind.strip():
            return None  # cut off: half a program is no call
        return json.dumps({"code": code.removesuffix("\n")}, ensure_ascii=False)


def write_python_body(name: str, arguments: str) -> str:
    """The body of a ChatGLM3 call with these arguments, the text of a JSON object."""
    source = python_call.write_call(arguments)
    if name == INTERPRETER:
        try:
            values = json.loads(arguments)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict) and list(values) == ["code"] and isinstance(values["code"], str):
            source = values["code"]
    return f"```python\n{source}\n```"
