"""The prompt layout of ChatGLM-6B and ChatGLM2-6B: the dialogue as one text of numbered rounds.

There are no tools and no system role. A round is a question and its answer. So neighbouring messages of one role are
merged, and the system messages are put in front of the first question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, Message, StructuredOutput
from glm_api.pipeline.formats.answer_grammar import structured_grammar
from glm_api.pipeline.formats.base import AnswerReader, Prompt, Tokenizer
from glm_api.pipeline.formats.images import check_images
from glm_api.pipeline.formats.role_format import differences
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.formats.text_reader import TextReader
from glm_api.pipeline.formats.tool_choice import refuse_tools
from glm_api.pipeline.model_info import OutputSpec


@dataclass(frozen=True, slots=True)
class RoundStyle:
    """The differences between the families with this layout.

    ``write`` makes the text from alternating questions and answers; the last one is a question. With ``prefix_first``
    the special ids stand before the text (ChatGLM2), else after it (ChatGLM-6B).
    """

    family: str
    write: Callable[[Sequence[str]], str]
    prefix_first: bool
    reuses_prefix: bool


class RoundFormat:
    """The `Format` of a family with this layout."""

    supports_tools = False
    image_ids: tuple[int, ...] = ()

    def __init__(self, tokenizer: Tokenizer, style: RoundStyle) -> None:
        self.family = style.family
        self.reuses_prefix = style.reuses_prefix
        self._style = style
        self._tokenizer = tokenizer

    def render(self, conversation: Conversation) -> Prompt:
        refuse_tools(conversation)
        check_images(conversation.messages, accepted=False)
        grammar = None
        if conversation.structured is not None:
            # SentencePiece puts a space in front of each text that it encodes.
            grammar = structured_grammar(self._tokenizer, conversation.structured, '" "?')
        ids = self.render_text(self._style.write(_alternate(conversation.messages)))
        return Prompt(ids, OutputSpec(grammar=grammar))

    def render_text(self, text: str) -> list[int]:
        ids, prefix = self._tokenizer.encode(text), self._tokenizer.prefix
        return prefix + ids if self._style.prefix_first else ids + prefix

    def reader(self, output: OutputSpec, stop: Sequence[str]) -> AnswerReader:
        chat = output.mode == "chat"
        # A structured answer must stay as it is.
        punctuation = chat and output.grammar is None
        return TextReader(self._tokenizer, TextFilter(stop, strip=chat, punctuation=punctuation))

    def text_output(self, structured: StructuredOutput | None) -> OutputSpec:
        grammar = None if structured is None else structured_grammar(self._tokenizer, structured)
        return OutputSpec(mode="text", grammar=grammar)

    def check(self) -> str | None:
        dialogue = (Message("user", "你好"), Message("assistant", "Hello!"), Message("user", "再见  1+1 = ?"))
        for part in (dialogue[:1], dialogue):
            expected = self._tokenizer.template([(message.role, message.content) for message in part])
            found = differences(self.family, self.render(Conversation(part)).ids, expected)
            if found is not None:
                return found
        return None


def _alternate(messages: Sequence[Message]) -> list[str]:
    """Return alternating questions and answers; the first and the last are questions.

    Raises `PromptError` for messages that cannot be brought into this order.
    """
    system: list[str] = []
    turns: list[tuple[str, list[str]]] = []
    for message in messages:
        if message.role == "system":
            system.append(message.content)
        elif turns and turns[-1][0] == message.role:
            turns[-1][1].append(message.content)
        else:
            turns.append((message.role, [message.content]))
    if not turns:
        raise PromptError("There must be a user message.", "messages")
    if turns[0][0] != "user":
        raise PromptError("This model's conversations must begin with a user message.", "messages")
    if turns[-1][0] != "user":
        raise PromptError("This model's conversations must end with a user message.", "messages")
    turns[0][1][:0] = filter(None, system)
    return ["\n".join(contents) for _, contents in turns]
