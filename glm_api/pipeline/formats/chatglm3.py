"""ChatGLM3-6B. Source: PROMPT.md and the composite demo of github.com/THUDM/ChatGLM3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from glm_api.pipeline.conversation import Tool
from glm_api.pipeline.formats.base import Format, Tokenizer
from glm_api.pipeline.formats.call_syntax import PythonSyntax, write_python_body
from glm_api.pipeline.formats.role_format import RoleFormat, RoleStyle
from glm_api.pipeline.formats.tool_json import tool_to_json
from glm_api.pipeline.formats.turns import Turn

TOOLS_INTRODUCTION = "Answer the following questions as best as you can. You have access to the following tools:\n"


def declare_tools(tools: Sequence[Tool], turns: list[Turn]) -> list[Turn]:
    """Put the tools at the head of the first system message.

    The model was trained on one such message, at the beginning.
    """
    text = TOOLS_INTRODUCTION + json.dumps([tool_to_json(tool) for tool in tools], indent=4, ensure_ascii=False)
    if turns[0].role == "system":
        if turns[0].content:
            text = f"{text}\n\n{turns[0].content}"
        return [replace(turns[0], content=text), *turns[1:]]
    return [Turn("system", text), *turns]


_STYLE = RoleStyle(
    family="chatglm3",
    syntax=PythonSyntax(),
    declare_tools=declare_tools,
    write_body=write_python_body,
)


def chatglm3(tokenizer: Tokenizer) -> Format:
    """Return the format of ChatGLM3-6B."""
    return RoleFormat(tokenizer, _STYLE)
