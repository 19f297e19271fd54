"""Make the grammar that holds a whole answer, and check that llguidance takes it.

The text of a structured answer, and each call, then fits by construction. See `call_grammar` for the parts.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import (
    ChoiceOutput,
    JsonOutput,
    RegexOutput,
    StructuredOutput,
    Tool,
    ToolChoice,
)
from glm_api.pipeline.formats import schemas
from glm_api.pipeline.formats.base import Tokenizer
from glm_api.pipeline.formats.call_grammar import Rules, free_text, json_value, literal, regex
from glm_api.pipeline.formats.call_syntax import CallSyntax
from glm_api.pipeline.formats.schemas import Schema, Unenforceable

logger = logging.getLogger(__name__)

# How long the tools of one request may be tried one by one, when they cannot be enforced together. Seconds.
TRIALS_SECONDS = 1.0
_NOT_ENFORCED = re.compile(r"Unimplemented keys: \[([^\]]*)\]|(oneOf|regex|look)")

# Between the parts of an answer; unbounded, a small model would write nothing else.
_LINE_ENDS = r"/\n{0,2}/"
_BEGINS_BLANK = regex(r"\s(?s:.)*")


class Hold(IntEnum):
    """How closely a call is held to the schema that its function declares."""

    FULLY = 0
    RELAXED = 1
    """To those keywords of which a grammar can be made."""
    OBJECT = 2
    """To any JSON object."""


def structured_grammar(tokenizer: Tokenizer, structured: StructuredOutput, opening: str = "") -> str:
    """Return the grammar of an answer that is only ``structured``, behind ``opening``, an expression in Lark.

    With an opening white space in front of the answer is not a part of it. Raises `PromptError`.
    """
    rules = Rules()
    text = _structured(rules, structured, stripped=bool(opening))
    # Without the opening, because it is only tried whether something can begin the answer.
    if (reason := tokenizer.refusal(rules.text(text))) is not None:
        raise PromptError(_message(reason), structured.param)
    return rules.text(f"{opening} {text}")


@dataclass(frozen=True, slots=True)
class HeldAnswer:
    """The grammar of an answer with tools. ``opening`` begins the body of a forced call; it belongs in the prompt."""

    grammar: str
    opening: str = ""


def thinking_grammar(tokenizer: Tokenizer, structured: StructuredOutput, *, begun: bool) -> str:
    """Return the grammar of an answer that may think, between <think> and </think>, and then is only ``structured``.

    ``begun``: the prompt has begun the thinking. Raises `PromptError`.
    """
    rules = Rules()
    text = _structured(rules, structured, stripped=True)
    if (reason := tokenizer.refusal(rules.text(text))) is not None:
        raise PromptError(_message(reason), structured.param)
    thought = rules.rule("/(?s:.*)/", until="</think>")
    thinking = thought if begun else f'({_LINE_ENDS} "<think>" {thought})?'
    return rules.text(f"{thinking} {_LINE_ENDS} {text}")


class ToolGrammars:
    """Makes the grammars of the answers of one family with tools."""

    def __init__(self, tokenizer: Tokenizer, syntax: CallSyntax) -> None:
        self._tokenizer = tokenizer
        self._syntax = syntax
        self._told: set[str] = set()
        # For the next request of the same client; agents send the same tools each time.
        self._closest_hold = functools.lru_cache(maxsize=256)(self._find_closest_hold)

    def hold(
        self,
        tools: Sequence[Tool],
        choice: ToolChoice,
        structured: StructuredOutput | None = None,
        forced: str | None = None,
    ) -> HeldAnswer:
        """Return the grammar of an answer that may call ``tools``, or must, as ``choice`` says.

        Calls are held to the declared schemas as closely as can be. ``forced`` is the tool whose call the prompt
        begins. Raises `PromptError` for a ``strict`` tool and for a ``structured`` answer that cannot be enforced.
        """
        if structured is not None:
            structured_grammar(self._tokenizer, structured, self._syntax.opening)
        try:
            declared = {tool.name: self._schema(tool, Hold.FULLY) for tool in tools}
            answer = self._answer(declared, choice, structured, forced)
            if self._tokenizer.refusal(answer.grammar) is None:
                return answer
        except Unenforceable:
            pass
        answer = self._answer(self.closest_schemas(tools), choice, structured, forced)
        if (reason := self._tokenizer.refusal(answer.grammar)) is None:
            return answer
        for tool in tools:
            if tool.strict:
                raise PromptError(_message(reason), tool.param)
        self._tell(reason)
        return self._answer({tool.name: self._schema(tool, Hold.OBJECT) for tool in tools}, choice, structured, forced)

    def _answer(
        self, tools: Mapping[str, Schema], choice: ToolChoice, structured: StructuredOutput | None, forced: str | None
    ) -> HeldAnswer:
        """Return the grammar of an answer whose calls of ``tools`` have arguments of these schemas."""
        rules, syntax = Rules(), self._syntax
        next_segment = f"<[{self._tokenizer.role('assistant')}]>"
        parallel = choice.parallel and choice.name is None
        opening = forced_call = ""
        if forced is not None:
            opening, forced_call = syntax.write_forced_call(rules, tools[forced])
            if not parallel:
                return HeldAnswer(rules.text(forced_call), opening)
        call = rules.choice([syntax.write_call(rules, name, schema) for name, schema in tools.items()])
        further_calls = f"({next_segment} {call})*" if parallel else ""
        if forced is not None:
            return HeldAnswer(rules.text(f"{forced_call} {further_calls}"), opening)
        only_calls = f"{call} {further_calls}"
        if choice.mode == "required":
            return HeldAnswer(rules.text(only_calls))
        if structured is not None:
            text = _structured(rules, structured, stripped=True)
            return HeldAnswer(rules.text(f"{syntax.opening} {text} | {only_calls}"))
        text = rules.terminal(free_text(tools))
        if parallel:
            segment = rules.choice([f"{text}?", call])
            return HeldAnswer(rules.text(f"{segment} ({next_segment} {segment})*"))
        return HeldAnswer(rules.text(f"{text}? ({next_segment} {text}?)* ({next_segment} {call})? | {call}"))

    def _schema(self, tool: Tool, hold: Hold) -> Schema:
        if hold is Hold.OBJECT:
            return {"type": "object"}
        schema = schemas.arguments(json.loads(tool.parameters))
        return schemas.prepared(schema) if hold is Hold.FULLY else schemas.relaxed(schema)

    def closest_schemas(self, tools: Sequence[Tool]) -> dict[str, Schema]:
        """Return for each tool the schema of arguments that is closest to the declared one and can be enforced.

        Raises `PromptError` for a ``strict`` tool whose schema cannot be.
        """
        held: dict[str, Schema] = {}
        until = time.monotonic() + TRIALS_SECONDS
        for tool in tools:
            hold, reason = Hold.OBJECT, "the tools take too long to compile"
            if time.monotonic() < until:
                hold, reason = self._closest_hold(tool.name, tool.parameters)
            if hold is not Hold.FULLY:
                if tool.strict:
                    raise PromptError(_message(reason), tool.param)
                self._tell(reason)
            held[tool.name] = self._schema(tool, hold)
        return held

    def _find_closest_hold(self, name: str, parameters: str) -> tuple[Hold, str]:
        """Return how closely calls of a tool can be held to its schema, and why not more closely."""
        tool, first_reason = Tool(name, parameters=parameters), ""
        for hold in (Hold.FULLY, Hold.RELAXED):
            try:
                rules = Rules()
                reason = self._tokenizer.refusal(
                    rules.text(self._syntax.write_call(rules, name, self._schema(tool, hold)))
                )
            except Unenforceable as unenforceable:
                reason = str(unenforceable)
            if reason is None:
                return hold, first_reason
            first_reason = first_reason or reason
        return Hold.OBJECT, first_reason

    def _tell(self, reason: str) -> None:
        """Log once which keyword of a tool's schema is not enforced. Only keywords are named, nothing of a client's."""
        found = _NOT_ENFORCED.search(reason)
        keyword = (found[1] or found[2]).replace('"', "") if found else "a schema that is too complex"
        keyword = "pattern" if keyword in ("regex", "look") else keyword
        if keyword not in self._told:
            self._told.add(keyword)
            logger.warning("The arguments of some tools are not held to their whole schema. Not enforced: %s.", keyword)


def _structured(rules: Rules, structured: StructuredOutput, *, stripped: bool) -> str:
    """Return the text that ``structured`` demands. ``stripped``: it does not begin with white space."""
    match structured:
        case JsonOutput():
            try:
                return json_value(rules, schemas.prepared(json.loads(structured.schema)))
            except Unenforceable as unenforceable:
                raise PromptError(_message(str(unenforceable)), structured.param) from None
        case RegexOutput():
            pattern = regex(schemas.with_ascii_classes(structured.pattern))
            return rules.terminal(f"{pattern} & ~{_BEGINS_BLANK}" if stripped else pattern)
        case ChoiceOutput():
            if stripped and any(choice[:1].isspace() for choice in structured.choices):
                raise PromptError("The answer of a chat cannot begin with white space.", structured.param)
            return rules.choice(map(literal, structured.choices))


def _message(reason: str) -> str:
    return f"The server cannot hold an answer to this ({reason}). Change or remove what is named."
