"""Read an answer of ChatGLM3 or GLM-4: text, tool calls, or text and then calls.

An answer is one or more segments. ``<|assistant|>`` opens each of them; the first one stands at the end of the prompt.
A segment begins with a line of metadata (the header), which is empty for text and the tool's name for a call:

    header -> text                     the line is empty, or can no longer become a tool's name
    header -> call                     the line names a tool, and the body begins like a call
    call   -> text                     the body is not that of a call, and no part of it has been sent

Text is sent at once. Only a header that may still become a tool's name waits. If the answer is cut meanwhile, such a
header is neither text nor a call: nothing of it is sent.

A call may have no body: its header is followed by the id of the role that brings the result. Its arguments are ``{}``.
"""

from __future__ import annotations

import secrets

from glm_api.pipeline.formats.base import Tokenizer
from glm_api.pipeline.formats.call_syntax import CallBody, CallSyntax
from glm_api.pipeline.formats.detokenizer import Detokenizer
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.frames import Event, FinishReason, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.model_info import OutputSpec

# The most white space around a tool's name; a header with more is text.
_MAX_BLANKS = 64


class ChatParser:
    """An `AnswerReader` for text and tool calls. Each event has the ids that were fed since the event before it."""

    def __init__(self, tokenizer: Tokenizer, syntax: CallSyntax, output: OutputSpec, text_filter: TextFilter) -> None:
        self.reason: FinishReason | None = None
        self._end_ids = tokenizer.end_ids
        self._assistant, self._observation = tokenizer.role("assistant"), tokenizer.role("observation")
        self._detokenizer = Detokenizer(tokenizer)
        self._syntax = syntax
        self._names = output.tools
        self._names_of_client = dict(output.names)
        # A grammar holds the answer, so a line that is a tool's name heads a call; only its end may be missing.
        self._held = output.grammar is not None
        self._only_calls = output.required or output.forced is not None
        self._longest_header = max(map(len, self._names), default=0) + _MAX_BLANKS
        self._filter = text_filter
        self._ids: list[int] = []
        self._events: list[Event] = []
        self._calls = 0
        self._in_header = True
        self._header = ""
        self._separator = ""  # between the text so far and that of the next segment
        self._body: CallBody | None = None
        self._name = ""
        self._started = False
        self._argued = False  # whether the call has any argument, or a part of one
        self._finished = False
        if output.forced is not None:
            self._open_call(output.forced, begun=True)

    @property
    def stop_string(self) -> str:
        return self._filter.stop_string

    @property
    def in_call(self) -> bool:
        return self._body is not None or (self._in_header and bool(self._names))

    def feed(self, token: int) -> list[Event]:
        if self.reason is not None:
            return []
        if token in self._end_ids:
            events = self._finish(cut=False, called=token == self._observation)
            self.reason = self.reason or ("tool_calls" if self._calls else "stop")
            return events
        self._ids.append(token)
        if token == self._assistant:
            if left := self._detokenizer.flush():
                self._read(left)
            self._close_segment()
            self._in_header, self._header, self._body = True, "", None
        else:
            text = self._detokenizer.feed(token)
            if not text:
                return []
            self._read(text)
        return self._take_events(over=self.reason is not None)

    def finish(self) -> list[Event]:
        return self._finish(cut=True)

    def _finish(self, cut: bool, called: bool = False) -> list[Event]:
        if self.reason is None and not self._finished:
            self._finished = True
            self._close_segment(cut, called)
            self._show(self._filter.flush())
            if self._filter.stopped or (self._body is not None and self._body.complete):
                self._stop()
        return self._take_events(over=True)

    def _read(self, text: str) -> None:
        if self._body is not None:
            self._read_call(self._body, text)
        elif self._in_header:
            self._header += text
            self._read_header()
        else:
            self._read_text(text)

    def _read_header(self) -> None:
        line, newline, rest = self._header.partition("\n")
        line = line.lstrip(" ")
        name = line.rstrip(" \t\r")
        if not newline:
            waits = name in self._names or any(name.startswith(line) for name in self._names)
        else:
            rest = rest.lstrip()
            opens = self._syntax.opens(rest) if name and name in self._names else False
            if opens:
                self._header = self._header.removesuffix(rest)
                self._read_call(self._open_call(name), rest)
                return
            waits = opens is None
        if not waits or len(self._header) > self._longest_header:
            self._begin_text()

    def _begin_text(self) -> None:
        self._in_header, self._body = False, None
        if self._filter.begun:
            self._separator = "\n"
        header, self._header = self._header, ""
        self._read_text(header)

    def _read_text(self, text: str) -> None:
        if self._separator:
            # This is text of a later segment: drop its metadata line, and put a line break between the two texts.
            text = text.lstrip()
            if not text:
                return
            text, self._separator = self._separator + text, ""
        self._show(self._filter.feed(text))
        if self._filter.stopped:
            self._stop()

    def _open_call(self, name: str, begun: bool = False) -> CallBody:
        self._in_header, self._started, self._argued = False, False, False
        self._name, self._body = name, self._syntax.body(name, begun=begun, certain=begun or self._held)
        return self._body

    def _read_call(self, body: CallBody, text: str) -> None:
        arguments = body.feed(text)
        if body.certain:
            self._give_arguments(arguments)
        if body.overrun and self.reason is None:
            # The call is complete, and the model goes on instead of waiting for the result.
            self._stop()

    def _give_arguments(self, arguments: str) -> None:
        if not self._started:
            self._show(self._filter.flush())
            if self._filter.stopped:
                self._stop()
                return
            self._started = True
            call_id = f"call_{secrets.token_hex(12)}"
            name = self._names_of_client.get(self._name, self._name)
            self._events.append(ToolCallStarted(self._calls, call_id, name, self._take_ids()))
            self._calls += 1
        if arguments:
            self._argued = True
            self._events.append(ToolArguments(self._calls - 1, arguments, self._take_ids()))

    def _end_arguments(self, arguments: str, cut: bool) -> None:
        """Give the last arguments of a call. A call without any gets an empty object, of which a cut one begins."""
        if not self._argued and arguments in ("", "{"):
            arguments = "{" if cut else "{}"
        self._give_arguments(arguments)

    def _close_segment(self, cut: bool = False, called: bool = False) -> None:
        """End the segment: by a role id, by an end id, or because the answer was ``cut``.

        ``called``: the model waits for the result of a call.
        """
        if self.reason is not None:
            return
        if self._in_header and self._header.strip():
            line, newline, rest = self._header.partition("\n")
            alone = bool(newline) and not rest.strip() and line.strip() in self._names
            if alone and (self._held or called):
                self._open_call(line.strip())
                self._end_arguments("", cut)
            elif not (self._only_calls or (cut and not newline)):
                self._begin_text()
        elif self._body is not None:
            arguments = self._body.close()
            if self._body.certain:
                self._end_arguments(arguments, cut)
            else:
                self._header += self._body.source
                self._begin_text()

    def _show(self, text: str) -> None:
        if text:
            self._events.append(Text(text, self._take_ids()))

    def _stop(self) -> None:
        self.reason = "tool_calls" if self._calls else "stop"

    def _take_ids(self) -> list[int]:
        ids, self._ids = self._ids, []
        return ids

    def _take_events(self, over: bool) -> list[Event]:
        if over and self._ids:
            # These ids' text is not shown: white space in front, a stop string, a closing fence.
            self._events.append(Text("", self._take_ids()))
        events, self._events = self._events, []
        return events
