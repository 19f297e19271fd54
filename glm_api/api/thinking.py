"""Whether the model thinks before it answers, and how much: the parameters that say so, as `TemplateOptions`.

OpenAI's ``reasoning_effort`` says it, Z.ai's ``thinking``, and ``chat_template_kwargs`` of llama-server and vLLM. The
Responses API and Anthropic's have names of their own, beside ``chat_template_kwargs``. For a model that thinks they all
come down to variables of its template. A model that does not think accepts only what asks for no thinking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from marshmallow import ValidationError

from glm_api.api.fields import Boolean, Choice, NestedObject, Object, RequestSchema, shown
from glm_api.api.json_schema import check_size
from glm_api.context import settings
from glm_api.errors import ApiError, invalid
from glm_api.pipeline.conversation import TemplateOptions
from glm_api.pipeline.model_info import ModelInfo

# OpenAI's values. The first two ask for no thinking.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
NO_THINKING = EFFORTS[:2]
# The names under which templates know whether to think. llama.cpp and GLM's templates know the first one.
SWITCHES = ("enable_thinking", "thinking")


@dataclass(frozen=True, slots=True)
class Demand:
    """The parameter ``param`` asks the model to think, or not to."""

    param: str
    thinks: bool


def effort_field() -> Choice:
    """Return the field for how much the model shall think."""
    return Choice(
        *EFFORTS,
        load_default=None,
        metadata={
            "description": "How much the model thinks before it answers. With `none` and `minimal` it does not think, "
            "if its template can be told so. A model that does not think accepts these two only."
        },
    )


def effort_demands(effort: str | None, param: str) -> list[Demand]:
    """Return what the reasoning effort, whose path is ``param``, asks for."""
    return [] if effort is None else [Demand(param, effort not in NO_THINKING)]


@dataclass(frozen=True, slots=True)
class Variable:
    """The parameter ``param`` sets the variable ``name`` of the template to ``value``; with None it says nothing."""

    name: str
    param: str = ""
    value: Any = None


def to_template(
    model: ModelInfo,
    demands: Sequence[Demand],
    kwargs: Mapping[str, Any],
    effort: Variable,
    clear: Variable = Variable("clear_thinking"),
) -> TemplateOptions:
    """Return the options for the template of ``model``: the ``chat_template_kwargs``, with what else was said.

    ``demands`` ask the model to think, or not to. ``effort`` is how much it shall think; it is no demand. ``clear``
    leaves earlier thinking out of the prompt. Raises `ApiError` for what contradicts itself, for thinking of a model
    that does not think, and for variables of a model that has no template.
    """
    switches = {name: kwargs[name] for name in SWITCHES if type(kwargs.get(name)) is bool}
    demands = [*demands, *(Demand(f"chat_template_kwargs.{name}", thinks) for name, thinks in switches.items())]
    if not model.thinks:
        for demand in demands:
            if demand.thinks:
                _refuse(demand.param)
        others = {name: value for name, value in kwargs.items() if name not in SWITCHES}
        if model.templated:
            return TemplateOptions(json.dumps(others, ensure_ascii=False))
        for name in kwargs:
            if name not in switches:
                _refuse(f"chat_template_kwargs.{name}")
        return TemplateOptions()
    for demand in demands[1:]:
        if demand.thinks != demands[0].thinks:
            raise _contradiction(demand.param, demands[0].param)
    for said in (clear, effort):
        if said.value is not None and kwargs.get(said.name, said.value) != said.value:
            raise _contradiction(f"chat_template_kwargs.{said.name}", said.param)
    variables = dict(kwargs)
    if clear.value is not None:
        variables[clear.name] = clear.value
    if demands:
        variables[SWITCHES[0]] = demands[0].thinks
    return TemplateOptions(json.dumps(variables, ensure_ascii=False), effort.value)


def effort_variable(param: str, effort: str | None) -> Variable:
    """Return the reasoning effort that the parameter ``param`` says."""
    return Variable("reasoning_effort", param, effort)


def clear_variable(param: str, clear: bool | None) -> Variable:
    """Return whether earlier thinking is left out of the prompt, as the parameter ``param`` says it."""
    return Variable("clear_thinking", param, clear)


def _refuse(param: str) -> None:
    """Raise the `ApiError` for what only a model that thinks can do, unless the server is lenient."""
    if not settings.lenient:
        reason = "this model does not think before it answers"
        message = f"Invalid '{param}': it is not supported, because {reason}. Leave it out."
        raise invalid(message, param, "unsupported_parameter")


def _contradiction(param: str, other: str) -> ApiError:
    return invalid(f"Invalid '{param}': it contradicts '{other}'.", param)


@dataclass(frozen=True, slots=True)
class Thinking:
    """Z.ai's ``thinking``. ``clear_thinking``: leave what the model thought before out of the prompt."""

    type: str | None = None
    clear_thinking: bool | None = None


class ThinkingSchema(RequestSchema):
    """Whether the model thinks before it answers, as Z.ai's API says it."""

    loads = Thinking
    type = Choice("enabled", "disabled", load_default=None)
    clear_thinking = Boolean(
        load_default=None,
        metadata={
            "description": "With false, the prompt has the `reasoning_content` of earlier answers, if the template can "
            "show it."
        },
    )


class TemplateVariables(Object):
    """A JSON object of bounded size: variables for the model's template, by name."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        variables = super()._deserialize(value, attr, data, **kwargs)
        check_size(variables, "an object")
        switch = variables.get(SWITCHES[0], False)
        if not isinstance(switch, bool):
            raise ValidationError({SWITCHES[0]: [f"must be true or false, but is {shown(switch)}."]})
        return variables


def template_variables_field() -> TemplateVariables:
    """Return the field ``chat_template_kwargs``."""
    return TemplateVariables(
        load_default=dict,
        metadata={
            "description": "Variables for the template of the model's file, such as `enable_thinking`: at most 64 KiB "
            "and 32 levels. A model without a template accepts nothing but `enable_thinking: false`.",
            "additionalProperties": True,
        },
    )


# Without slots, as the class that inherits from it.
@dataclass(frozen=True, kw_only=True)
class ThinkingParameters:
    """The parameters of a chat that say whether the model thinks, and how much."""

    reasoning_effort: str | None = None
    thinking: Thinking = Thinking()
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    def template(self, model: ModelInfo) -> TemplateOptions:
        """Return the options for the template of ``model``.

        Raises `ApiError` for parameters that contradict each other, and for those that ``model`` cannot honour.
        """
        demands = effort_demands(self.reasoning_effort, "reasoning_effort")
        if self.thinking.type is not None:
            demands.append(Demand("thinking.type", self.thinking.type == "enabled"))
        clear = self.thinking.clear_thinking
        options = to_template(
            model,
            demands,
            self.chat_template_kwargs,
            effort_variable("reasoning_effort", self.reasoning_effort),
            clear_variable("thinking.clear_thinking", clear),
        )
        if clear is False and not model.thinks:
            _refuse("thinking.clear_thinking")
        return options


class ThinkingParametersSchema(RequestSchema):
    """The parameters of a chat that say whether the model thinks, and how much."""

    loads: ClassVar[type[Any]] = ThinkingParameters
    reasoning_effort = effort_field()
    thinking = NestedObject(ThinkingSchema, load_default=Thinking(), metadata={"default": {}})
    chat_template_kwargs = template_variables_field()
