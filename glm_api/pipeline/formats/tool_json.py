"""Write a declared tool as JSON, in the form on which the families were trained."""

from __future__ import annotations

import json
from typing import Any

from glm_api.pipeline.conversation import Tool


def tool_to_json(tool: Tool) -> dict[str, Any]:
    """Return the tool without OpenAI's ``{"type": "function", "function": ...}`` around it.

    A missing description stays missing, as in the official servers. Missing parameters become the schema of an empty
    object, which is their meaning in OpenAI's documentation.
    """
    description = {} if tool.description is None else {"description": tool.description}
    parameters = json.loads(tool.parameters) or {"type": "object", "properties": {}}
    return {"name": tool.name, **description, "parameters": parameters}
