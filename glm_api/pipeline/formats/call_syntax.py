"""Read the body of a tool call while the model writes it. The body follows the line with the tool's name."""

from __future__ import annotations

import json
import re
from typing import Protocol

from glm_api.pipeline.formats import call_grammar, python_call
from glm_api.pipeline.formats.call_grammar import Rules, json_value, literal, python_arguments, regex
from glm_api.pipeline.formats.schemas import ANNOTATIONS, Schema

INTERPRETER = "interpreter"

_LINE_END = "\n"
_FENCE = "```"
_FENCE_LINE = f"{_FENCE}python\n"
_LAST_LINE = f"\n{_FENCE}"
_CALL = f"{python_call.FUNCTION}("
# Code that begins like this would be read as the call of an ordinary tool.
_NO_CODE = regex(rf"\s*(\{{|({python_call.FUNCTION}|{INTERPRETER})\s*\()(?s:.)*")


class CallBody(Protocol):
    """Reads one body and returns the arguments as the text of a JSON object, in one piece or in many."""

    certain: bool
    """Whether the body is certainly that of a call."""

    complete: bool
    """Whether the arguments are complete."""

    overrun: bool
    """Whether something other than white space follows the arguments."""

    source: str
    """The body as written, as long as it is not certainly that of a call."""

    def feed(self, text: str) -> str:
        """Return the arguments that this text adds, possibly empty."""

    def close(self) -> str:
        """Return the arguments that are still held back; the body is over."""


class CallSyntax(Protocol):
    """How a family writes calls."""

    def opens(self, text: str) -> bool | None:
        """Return whether a body may begin like this, None if the text is too short to tell.

        White space in front has been removed.
        """

    def body(self, name: str, *, begun: bool, certain: bool) -> CallBody:
        """Return a reader for a body.

        ``begun``: the prompt has begun it. ``certain``: it is that of a call, whatever the model writes.
        """

    # --- the grammar of what the methods above read ---

    opening: str
    """What stands in front of text: the empty line of metadata, as an expression in Lark."""

    def write_call(self, rules: Rules, name: str, parameters: Schema) -> str:
        """Add the rules of a call, its line of metadata included; return the name of the first."""

    def write_forced_call(self, rules: Rules, parameters: Schema) -> tuple[str, str]:
        """Return the beginning of a body, for a prompt that begins the call; add the rules of what follows it.

        The second string is the name of the first rule.
        """


class JsonSyntax:
    """GLM-4: a JSON object."""

    opening = literal("\n")

    def opens(self, text: str) -> bool | None:
        return text.startswith("{") if text else None

    def body(self, name: str, *, begun: bool, certain: bool) -> CallBody:
        return JsonBody()

    def write_call(self, rules: Rules, name: str, parameters: Schema) -> str:
        return rules.rule(f"{literal(f'{name}{_LINE_END}')} {json_value(rules, parameters)}")

    def write_forced_call(self, rules: Rules, parameters: Schema) -> tuple[str, str]:
        return "", json_value(rules, parameters)


class JsonBody:
    """Returns a JSON object as it is written, and nothing after it."""

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
        """Follow the brackets and strings of ``text``; return how many of its characters belong to the object."""
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
    """ChatGLM3: ``tool_call(...)`` in a Markdown fence; for the tool ``interpreter`` code in a fence."""

    # SentencePiece puts a space in front of each text that it encodes, so the model was trained with these.
    opening = "/ ?\\n ?/"

    _OPENINGS = (_FENCE, _CALL, "{")

    def opens(self, text: str) -> bool | None:
        if text.startswith(self._OPENINGS):
            return True
        return None if any(opening.startswith(text) for opening in self._OPENINGS) else False

    def body(self, name: str, *, begun: bool, certain: bool) -> CallBody:
        return PythonBody(name, begun, certain)

    def write_call(self, rules: Rules, name: str, parameters: Schema) -> str:
        # One terminal, so that it is not given up for text that goes on longer.
        head = f'{regex(f" ?{re.escape(name)}{_LINE_END}")} " "? {literal(_FENCE_LINE)}'
        if name == INTERPRETER and _takes_code(parameters):
            code = rules.terminal(f"/(?s:.)*/ & ~{_NO_CODE}")
            return rules.rule(f"{head} {rules.rule(code, until=_LAST_LINE)}")
        return rules.rule(f"{head} {call_grammar.python_call(rules, parameters)} {literal(_LAST_LINE)}")

    def write_forced_call(self, rules: Rules, parameters: Schema) -> tuple[str, str]:
        arguments = python_arguments(rules, parameters)
        if arguments is None:
            return _FENCE_LINE, rules.rule(f"{json_value(rules, parameters)} {literal(_LAST_LINE)}")
        return f"{_FENCE_LINE}{_CALL}", rules.rule(f"{arguments} {literal(f'){_LAST_LINE}')}")


def _takes_code(parameters: Schema) -> bool:
    """Whether ``{"code": ...}`` with any text fits ``parameters``, or they say nothing."""
    properties = parameters.get("properties", {})
    if not properties:
        return True
    code = properties.get("code", {})
    return (
        code.keys() - ANNOTATIONS == {"type"}
        and code["type"] == "string"
        and parameters.get("required")
        in (
            None,
            [],
            ["code"],
        )
    )


class PythonBody:
    """Holds a fenced call back until it is complete, then returns its arguments in one piece."""

    _OPENING_FENCE = re.compile(r"\s*```(?:python\b|py\b|json\b)?[ \t]*\n?")
    # Each closing fence may be the end, so each is tried. The limit keeps a body of fences from taking time that grows
    # with the square of its size.
    _MAX_TRIES = 8

    def __init__(self, name: str, begun: bool, certain: bool) -> None:
        self.certain = certain
        self.complete = False
        self.overrun = False
        self.source = ""
        self._name = name
        self._begun = begun
        self._tries = 0
        self._tried_to = 0

    def feed(self, text: str) -> str:
        if self.complete:
            self.overrun = self.overrun or bool(text.strip())
            return ""
        self.source += text
        if self._name == INTERPRETER or _FENCE[0] not in text:
            return ""
        return self._try_closing_fences()

    def close(self) -> str:
        if self.complete:
            return ""
        body = self._whole
        source = self._inside_fence(body)
        arguments = python_call.read_call(source, self._name)
        if arguments is None and self._name == INTERPRETER and body.lstrip().startswith(_FENCE):
            arguments = self._read_code(body)
        if arguments is not None:
            self._accept()
            return arguments
        if not self.certain:
            return ""
        # The answer was cut.
        return source if source.startswith("{") else python_call.read_cut_call(source, self._name)

    @property
    def _whole(self) -> str:
        """The body with what the prompt has begun it with. Its call is a JSON object where Python cannot spell it."""
        if not self._begun:
            return self.source
        return f"{_FENCE_LINE}{'' if self.source.lstrip().startswith('{') else _CALL}{self.source}"

    def _try_closing_fences(self) -> str:
        body = self._whole
        opening = self._OPENING_FENCE.match(body)
        start = max(opening.end() if opening else 0, self._tried_to)
        while self._tries < self._MAX_TRIES and (fence := body.find(_FENCE, start)) >= 0:
            self._tries += 1
            self._tried_to = start = fence + len(_FENCE)
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
        return body[opening.end() if opening else 0 :].strip().rstrip(_FENCE)

    def _read_code(self, body: str) -> str | None:
        opening = self._OPENING_FENCE.match(body)
        code, closing, behind = body[opening.end() if opening else 0 :].rpartition(_FENCE)
        if not closing or behind.strip():
            return None  # the code is cut off: half a program is no call
        return json.dumps({"code": code.removesuffix("\n")}, ensure_ascii=False)


def write_python_body(name: str, arguments: str) -> str:
    """Return the body of a ChatGLM3 call; ``arguments`` is the text of a JSON object."""
    source = python_call.write_call(arguments)
    if name == INTERPRETER:
        try:
            values = json.loads(arguments)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict) and list(values) == ["code"] and isinstance(values["code"], str):
            source = values["code"]
    return f"{_FENCE_LINE}{source}{_LAST_LINE}"
