"""GLM-4-9B and GLM-4V-9B. Source: tokenization_chatglm.py of huggingface.co/THUDM/glm-4-9b-chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from glm_api.pipeline.conversation import Tool
from glm_api.pipeline.formats.base import Format, Tokenizer
from glm_api.pipeline.formats.call_syntax import JsonSyntax
from glm_api.pipeline.formats.role_format import RoleFormat, RoleStyle
from glm_api.pipeline.formats.tool_json import tool_to_json
from glm_api.pipeline.formats.turns import Turn

TOOLS_INTRODUCTION = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
)
TOOL_DIRECTION = "在调用上述函数时，请使用 Json 格式表示调用的参数。"


def declare_tools(tools: Sequence[Tool], turns: list[Turn]) -> list[Turn]:
    """Put the tools into a system message of their own, in front of all others."""
    sections = (
        f"\n\n## {tool.name}\n\n{json.dumps(tool_to_json(tool), indent=4, ensure_ascii=False)}\n{TOOL_DIRECTION}"
        for tool in tools
    )
    return [Turn("system", TOOLS_INTRODUCTION + "".join(sections)), *turns]


def write_body(name: str, arguments: str) -> str:
    """Return the body of a call: its arguments."""
    return arguments


_STYLE = RoleStyle(
    family="glm4",
    syntax=JsonSyntax(),
    declare_tools=declare_tools,
    write_body=write_body,
    writes_empty_system=False,
)
# chatglm_cpp replaces the id in the middle, between the two marks, by the image itself.
_VISION_STYLE = replace(_STYLE, family="glm4v", image=("begin_of_image", "endoftext", "end_of_image"))


def glm4(tokenizer: Tokenizer) -> Format:
    """Return the format of GLM-4-9B."""
    return RoleFormat(tokenizer, _STYLE)


def glm4v(tokenizer: Tokenizer) -> Format:
    """Return the format of GLM-4V-9B."""
    return RoleFormat(tokenizer, _VISION_STYLE)
