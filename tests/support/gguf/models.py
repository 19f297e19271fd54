"""Write a tiny GGUF model of the GLM family. Its answers are scripts, at any temperature that a request has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.gguf import templates
from tests.support.gguf.architectures import SMALL, Architecture, Size, chatglm, deepseek2, glm4, glm4_vision, glm4moe
from tests.support.gguf.file import Metadata, write_gguf
from tests.support.gguf.script import Script, weights_for
from tests.support.gguf.vocabulary import byte_pairs, sentence_pieces

# What a template or a format writes before the functions that a request declares, and before a function's result.
_TOOLS_AS_XML, _TOOLS_IN_CHINESE, _TOOLS_OF_CHATGLM3, _RESULT = (
    "<tools>",
    "# 可用工具",
    "following tools:",
    "<|observation|>",
)

_TEXT = ("The", " answer", " is", " 四", "2", "。", "<|user|>")
_RAIN = ("It", " rains", " there", "!", "<|user|>")
_THOUGHT = ("<think>", "Let me", " think", ".", "</think>")

_PLAIN = Script(("\n", *_TEXT))
_JSON_CALL = Script(("get", "_weather\n", '{"city":', ' "Pa', 'ris"', "}", _RESULT), _TOOLS_IN_CHINESE)
_PYTHON_CALL = Script(
    ("get_weather\n ```python\n", "tool_call(", "city", "='Pa", "ris'", ")", "\n```", _RESULT), _TOOLS_OF_CHATGLM3
)
_CALL_IN_LINES = Script(
    (
        *("\n", *_THOUGHT, "<tool_call>", "get_weather", "\n<arg_key>", "city", "</arg_key>", "\n<arg_value>"),
        *("Pa", "ris", "</arg_value>\n", "</tool_call>", _RESULT),
    ),
    _TOOLS_AS_XML,
)
_CALL_IN_ONE_LINE = Script(
    (
        *(*_THOUGHT, "<tool_call>", "get_weather", "<arg_key>", "city", "</arg_key>", "<arg_value>"),
        *("Pa", "ris", "</arg_value>", "</tool_call>", _RESULT),
    ),
    _TOOLS_AS_XML,
)


@dataclass(frozen=True)
class Kind:
    """A member of the family.

    ``pre``: how its vocabulary of byte pairs cuts a text into words; ``None`` if it has SentencePiece's. ``scripts``:
    what it answers to a test without scripts of its own: thinking (if it does) and a text; a call of ``get_weather``
    when functions are declared; another text when the prompt has a function's result.
    """

    name: str
    architecture: Architecture
    scripts: tuple[Script, ...]
    template: str | None = None
    pre: str | None = "glm4"


CHATGLM3 = Kind("ChatGLM3", chatglm, (_PLAIN, _PYTHON_CALL, Script(("\n", *_RAIN), _RESULT)), pre=None)
GLM_4 = Kind("GLM-4", chatglm, (_PLAIN, _JSON_CALL, Script(("\n", *_RAIN), _RESULT)), pre="chatglm-bpe")
GLM_4_0414 = Kind("GLM-4-0414", glm4, (_PLAIN, _JSON_CALL, Script(("\n", *_RAIN), _RESULT)), templates.GLM_4_0414)
GLM_Z1 = Kind("GLM-Z1", glm4, (Script(("\n", *_THOUGHT, *_TEXT)),), templates.GLM_Z1)
GLM_4_5 = Kind(
    "GLM-4.5",
    glm4moe,
    (Script(("\n", *_THOUGHT, *_TEXT)), _CALL_IN_LINES, Script(("\n", *_THOUGHT, *_RAIN), _RESULT)),
    templates.GLM_4_5,
)
GLM_4_1V = Kind(
    "GLM-4.1V",
    glm4_vision,
    (Script((*_THOUGHT, *_TEXT)), Script((*_THOUGHT, "A", " picture", "!", "<|user|>"), "<|begin_of_image|>")),
    templates.GLM_4_5,
)
GLM_4_7_FLASH = Kind(
    "GLM-4.7-Flash",
    deepseek2,
    (Script((*_THOUGHT, *_TEXT)), _CALL_IN_ONE_LINE, Script((*_THOUGHT, *_RAIN), _RESULT)),
    templates.GLM_4_7,
)
KINDS = [CHATGLM3, GLM_4, GLM_4_0414, GLM_Z1, GLM_4_5, GLM_4_1V, GLM_4_7_FLASH]


def write_model(
    path: Path,
    kind: Kind,
    scripts: Sequence[Script] | None = None,
    *,
    size: Size = SMALL,
    add_space_prefix: bool = False,
) -> Path:
    """Write a model of ``kind`` to ``path``; ``scripts``: in place of the kind's own.

    ``add_space_prefix``: what a SentencePiece vocabulary says of the beginning of a text.
    """
    scripts = scripts or kind.scripts
    triggers = [script.trigger for script in scripts if script.trigger]
    pieces = [piece for script in scripts for piece in script.pieces]
    if kind.pre is None:
        vocabulary = sentence_pieces(add_space_prefix, triggers, pieces)
    else:
        vocabulary = byte_pairs(kind.pre, triggers, pieces)
    weights = weights_for(scripts, vocabulary.ids, vocabulary.size, size.hidden)
    metadata, tensors = kind.architecture(weights, size)
    template: Metadata = {"tokenizer.chat_template": kind.template} if kind.template else {}
    return write_gguf(path, {**metadata, "general.name": kind.name, **vocabulary.metadata, **template}, tensors)
