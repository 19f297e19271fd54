"""The prompt layout of ChatGLM3 and GLM-4.

A prompt is ``[gMASK]`` ``sop``, then for each turn the id of its role, the ids of ``{metadata}\\n`` and those of the
content, and at the end ``<|assistant|>``. The metadata line and the content are encoded separately, as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, Message, StructuredOutput, Tool
from glm_api.pipeline.formats.answer_grammar import ToolGrammars, structured_grammar
from glm_api.pipeline.formats.base import AnswerReader, Prompt, Tokenizer
from glm_api.pipeline.formats.call_syntax import CallSyntax
from glm_api.pipeline.formats.chat_parser import ChatParser
from glm_api.pipeline.formats.images import check_images
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.formats.text_reader import TextReader
from glm_api.pipeline.formats.tool_choice import choose_tools
from glm_api.pipeline.formats.turns import Turn, to_turns
from glm_api.pipeline.model_info import OutputSpec


@dataclass(frozen=True, slots=True)
class RoleStyle:
    """The differences between the families with this layout.

    ``declare_tools`` adds the tools to the turns. ``write_body`` writes the body of a call from the tool's name and its
    arguments. ``image`` names the ids that stand for an image; it is empty for a family that accepts none. With
    ``writes_empty_system`` the family's template writes system messages without content too.
    """

    family: str
    syntax: CallSyntax
    declare_tools: Callable[[Sequence[Tool], list[Turn]], list[Turn]]
    write_body: Callable[[str, str], str]
    image: tuple[str, ...] = ()
    writes_empty_system: bool = True


class HeldAnswers:
    """The answers of a family that begins each message with its role's id: text, or calls in ``syntax``."""

    def __init__(self, tokenizer: Tokenizer, syntax: CallSyntax) -> None:
        self._tokenizer = tokenizer
        self._syntax = syntax
        self._grammars = ToolGrammars(tokenizer, syntax)

    def prompt(self, ids: list[int], conversation: Conversation) -> Prompt:
        """Return the prompt that begins with ``ids``, the last of which begins the answer, and how that is read.

        Raises `PromptError` for what the answer cannot be held to.
        """
        tools, output = choose_tools(conversation)
        structured = conversation.structured
        # A name with white space, which no endpoint accepts, cannot be told from text.
        named = [tool for tool in tools if tool.name in output.tools and tool.name.split() == [tool.name]]
        grammar: str | None = None
        if named:
            held = self._grammars.hold(named, conversation.tool_choice, structured, output.forced)
            grammar = held.grammar
            if output.forced is not None:
                ids = [*ids, *self._tokenizer.encode(f"{output.forced}\n"), *self._tokenizer.encode(held.opening)]
        elif structured is not None:
            grammar = structured_grammar(self._tokenizer, structured, self._syntax.opening)
        return Prompt(ids, replace(output, grammar=grammar))

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        """Return a reader for the answer to such a prompt; a ``stop`` string ends it and is not a part of it."""
        if output.mode == "text":
            return TextReader(self._tokenizer, TextFilter(stop, strip=False, punctuation=False))
        text_filter = TextFilter(stop, strip=True, punctuation=False)
        return ChatParser(self._tokenizer, self._syntax, output, text_filter)


class RoleFormat:
    """The `Format` of a family with this layout.

    If a conversation ends with an assistant message, the answer continues that message.
    """

    supports_tools = True
    reuses_prefix = True

    def __init__(self, tokenizer: Tokenizer, style: RoleStyle) -> None:
        self.family = style.family
        self.image_ids = tuple(map(tokenizer.role, style.image))
        self._style = style
        self._tokenizer = tokenizer
        self._answers = HeldAnswers(tokenizer, style.syntax)

    def render(self, conversation: Conversation) -> Prompt:
        tools, _ = choose_tools(conversation)
        messages = conversation.messages
        check_images(messages, accepted=bool(self.image_ids))
        self._check(messages)
        turns = to_turns(messages, self._style.write_body)
        if not self._style.writes_empty_system:
            turns = [turn for turn in turns if turn.content or turn.role != "system"]
        structured = conversation.structured
        if tools:
            turns = self._declare(tools, turns)
        ids = list(self._tokenizer.prefix)
        for turn in turns:
            ids += self._encode_turn(turn)
        if conversation.continues:
            return Prompt(ids, self.text_output(structured))
        ids.append(self._tokenizer.role("assistant"))
        return self._answers.prompt(ids, conversation)

    def render_text(self, text: str) -> list[int]:
        return [*self._tokenizer.prefix, *self._tokenizer.encode(text)]

    def text_output(self, structured: StructuredOutput | None) -> OutputSpec:
        grammar = None if structured is None else structured_grammar(self._tokenizer, structured)
        return OutputSpec(mode="text", grammar=grammar)

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        return self._answers.reader(output, stop)

    def check(self) -> str | None:
        dialogue = (
            Message("system", "你是一个助手。"),
            Message("user", "你好"),
            Message("assistant", "Hello!\n"),
            Message("user", " 再见\n\n1+1 = ?"),
        )
        expected = self._tokenizer.template([(message.role, message.content) for message in dialogue])
        return differences(self.family, self.render(Conversation(dialogue)).ids, expected)

    def _check(self, messages: Sequence[Message]) -> None:
        if not messages:
            raise PromptError("There must be at least one message.", "messages")

    def _declare(self, tools: Sequence[Tool], turns: list[Turn]) -> list[Turn]:
        try:
            return self._style.declare_tools(tools, turns)
        except RecursionError:
            raise PromptError("The tools' parameters are nested too deeply.", "tools") from None

    def _encode_turn(self, turn: Turn) -> list[int]:
        tokenizer = self._tokenizer
        ids = [tokenizer.role(turn.role), *tokenizer.encode(f"{turn.metadata}\n")]
        if turn.image:
            ids += self.image_ids
        return ids + tokenizer.encode(turn.content)


def differences(family: str, built: list[int], expected: list[int]) -> str | None:
    """Return a line about the first id in which two prompts of one dialogue differ, or None."""
    if built == expected:
        return None
    shorter = min(len(built), len(expected))
    at = next((at for at in range(shorter) if built[at] != expected[at]), shorter)
    return (
        f"{family}: the prompt of a plain dialogue differs from chatglm_cpp's at token {at} of {len(expected)}: "
        f"{built[at : at + 3]} instead of {expected[at : at + 3]}"
    )
