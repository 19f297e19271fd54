"""A declared tool in the JSON form on which the families were trained."""

from __future__ import annotations

import json
from typing import Any

from glm_api.pipeline.conversation import Tool


def tool_to_json(tool: Tool) -> dict[str, Any]:
    """The tool without OpenAI's ``{"type": "function", "function": ...}`` around it.

    A missing description stays missing, as the official servers pass on what they got; missing parameters are the
    empty object's schema, which OpenAI documents as their meaning.
    """
    description = {} if tool.description is None else {"description": tool.description}
    parameters = json.loads(tool.parameters) or {"type": "object", "properties": {}}
    return {"name": tool.name, **description, "parameters": parameters}
