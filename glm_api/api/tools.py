"""The tools that a request declares, and the choice of those that the model may call.

The legacy ``functions`` and ``function_call`` are converted into the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from glm_api.api.fields import (
    Array,
    Boolean,
    Choice,
    DiscriminatedUnion,
    NestedObject,
    Object,
    RequestSchema,
    String,
    Union,
)
from glm_api.api.json_schema import check_parameters
from glm_api.api.messages import ToolName
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Tool, ToolChoice

MAX_TOOLS = 128


@dataclass(frozen=True, slots=True)
class FunctionEntry:
    """A function that the caller declares."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    strict: bool | None = None

    def to_tool(self, param: str) -> Tool:
        """Return the pipeline's tool; ``param`` is the path of this entry."""
        parameters = json.dumps(self.parameters, ensure_ascii=False)
        return Tool(self.name, self.description, parameters, bool(self.strict), f"{param}.parameters")


class FunctionSchema(RequestSchema):
    """A function that the model may call."""

    loads = FunctionEntry
    name = ToolName()
    description = String(max=16_384, load_default=None)
    parameters = Object(
        load_default=dict,
        validate=check_parameters,
        metadata={
            "description": "JSON schema of an object: at most 64 KiB and 32 levels; only internal references.",
            "additionalProperties": True,
        },
    )
    strict = Boolean(
        load_default=None,
        metadata={
            "description": "The arguments always fit the schema. With true, a schema to which they cannot be held in "
            "full is refused."
        },
    )


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """An entry of ``tools``."""

    function: FunctionEntry


class ToolSchema(RequestSchema):
    """A tool, which is always a function."""

    loads = ToolEntry
    type = Choice("function", required=True)
    function = NestedObject(FunctionSchema, required=True)


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """``{"name": ...}``."""

    name: str


class NamedFunctionSchema(RequestSchema):
    """The function that must be called."""

    loads: ClassVar[type[Any]] = NamedFunction
    name = ToolName()


@dataclass(frozen=True, slots=True)
class NamedTool:
    """``{"type": "function", "function": {"name": ...}}``."""

    function: NamedFunction


class NamedToolSchema(RequestSchema):
    """The tool that must be called."""

    loads = NamedTool
    type = Choice("function", required=True)
    function = NestedObject(NamedFunctionSchema, required=True)


class FlatNamedToolSchema(NamedFunctionSchema):
    """The function that must be called, in the form of the Responses API."""

    type = Choice("function", required=True)


@dataclass(frozen=True, slots=True)
class AllowedTools:
    """The model may call (``mode`` is ``auto``) or must call (``required``) one of these ``tools``, and no others."""

    mode: str
    tools: tuple[NamedTool | NamedFunction, ...]

    @property
    def names(self) -> list[str]:
        """The names of the tools."""
        return [tool.function.name if isinstance(tool, NamedTool) else tool.name for tool in self.tools]

    def to_flat_json(self) -> dict[str, Any]:
        """Return this in the form of the Responses API."""
        tools = [{"type": "function", "name": name} for name in self.names]
        return {"type": "allowed_tools", "mode": self.mode, "tools": tools}


class AllowedToolsSchema(RequestSchema):
    """The tools that may be called."""

    loads: ClassVar[type[Any]] = AllowedTools
    mode = Choice("auto", "required", required=True)
    tools = Array(NestedObject(NamedToolSchema), min=1, max=MAX_TOOLS, required=True)


@dataclass(frozen=True, slots=True)
class AllowedToolsChoice:
    """``{"type": "allowed_tools", "allowed_tools": {...}}``."""

    allowed_tools: AllowedTools


class AllowedToolsChoiceSchema(RequestSchema):
    """A choice among some of the tools."""

    loads = AllowedToolsChoice
    type = Choice("allowed_tools", required=True)
    allowed_tools = NestedObject(AllowedToolsSchema, required=True)


class FlatAllowedToolsSchema(RequestSchema):
    """A choice among some of the tools, in the form of the Responses API."""

    loads = AllowedTools
    type = Choice("allowed_tools", required=True)
    mode = Choice("auto", "required", required=True)
    tools = Array(NestedObject(FlatNamedToolSchema), min=1, max=MAX_TOOLS, required=True)


ChosenTools = str | NamedTool | NamedFunction | AllowedTools | AllowedToolsChoice
"""What a request says of the tools to call, in any of its forms."""


class _ChoiceWord(Choice):
    """A choice that names no tool. ``any``, as Mistral and Anthropic say, means ``required``."""

    def __init__(self) -> None:
        super().__init__("none", "auto", "required", "any")

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        word = super()._deserialize(value, *args, **kwargs)
        return "required" if word == "any" else word


def tools_field() -> Array:
    """Return the field ``tools``."""
    return Array(NestedObject(ToolSchema), max=MAX_TOOLS, load_default=())


def functions_field() -> Array:
    """Return the legacy field ``functions``."""
    return Array(
        NestedObject(FunctionSchema),
        max=MAX_TOOLS,
        load_default=(),
        metadata={"description": "Legacy form of `tools`."},
    )


def tool_choice_field() -> Union:
    """Return the field ``tool_choice``."""
    return _choice_field({"function": NamedToolSchema, "allowed_tools": AllowedToolsChoiceSchema})


def flat_tool_choice_field() -> Union:
    """Return the field ``tool_choice`` in the form of the Responses API."""
    return _choice_field({"function": FlatNamedToolSchema, "allowed_tools": FlatAllowedToolsSchema})


def _choice_field(objects: Mapping[str, type[RequestSchema]]) -> Union:
    return Union(
        string=_ChoiceWord(),
        object=DiscriminatedUnion("type", objects),
        load_default=None,
        metadata={"description": "`auto` by default; `any` means `required`."},
    )


def function_call_field() -> Union:
    """Return the legacy field ``function_call``."""
    return Union(
        string=Choice("none", "auto"),
        object=NestedObject(NamedFunctionSchema),
        load_default=None,
        metadata={"description": "Legacy form of `tool_choice`."},
    )


def to_tools(entries: Iterable[FunctionEntry], param: str) -> tuple[Tool, ...]:
    """Return the pipeline's tools. Raises `ApiError` if two have the same name.

    ``param`` is the path of an entry, with {} in place of its index.
    """
    tools = tuple(entry.to_tool(param.format(index)) for index, entry in enumerate(entries))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            path = f"{param.format(index)}.name"
            raise invalid(f"Invalid '{path}': another tool is named {tool.name!r} already.", path)
        seen.add(tool.name)
    return tools


def choose(
    chosen: ChosenTools | None, tools: tuple[Tool, ...], parallel: bool, param: str
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return those of ``tools`` that the model is shown, and the pipeline's tool choice.

    Raises `ApiError` for a choice that is not possible with ``tools``.
    """
    match chosen:
        case None | "auto":
            return tools, ToolChoice(parallel=parallel)
        case "none":
            return tools, ToolChoice("none")
        case "required":
            if not tools:
                raise invalid(f"Invalid '{param}': 'required' needs tools.", param)
            return tools, ToolChoice("required", parallel=parallel)
        case NamedTool():
            return tools, _named(chosen.function.name, tools, param)
        case NamedFunction():
            return tools, _named(chosen.name, tools, param)
        case AllowedToolsChoice():
            return choose(chosen.allowed_tools, tools, parallel, param)
        case AllowedTools():
            for name in chosen.names:
                _named(name, tools, param)
            allowed = tuple(tool for tool in tools if tool.name in chosen.names)
            return choose(chosen.mode, allowed, parallel, param)
        case _:
            raise AssertionError(chosen)


def _named(name: str, tools: tuple[Tool, ...], param: str) -> ToolChoice:
    if all(tool.name != name for tool in tools):
        raise invalid(f"Invalid '{param}': {name!r} is not among the tools.", param)
    return ToolChoice("required", name)
