"""Whether the model thinks before it answers, and how much: the parameters that say so, as `TemplateOptions`.

OpenAI's ``reasoning_effort`` says it, Z.ai's ``thinking``, and ``chat_template_kwargs`` of llama-server and vLLM. For a
model that thinks they all come down to variables of its template. A model that does not think accepts only what asks
for no thinking.
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


def to_template(
    model: ModelInfo, demands: Sequence[Demand], effort: str | None, kwargs: Mapping[str, Any]
) -> TemplateOptions:
    """Return the options for the template of ``model``: ``kwargs``, with what the ``demands`` ask for.

    Raises `ApiError` for demands that contradict each other, and for thinking of a model that does not think.
    """
    if not model.thinks:
        for demand in demands:
            if demand.thinks:
                _refuse(demand.param)
        return TemplateOptions()
    for demand in demands[1:]:
        if demand.thinks != demands[0].thinks:
            raise _contradiction(demand.param, demands[0].param)
    switched = {SWITCHES[0]: demands[0].thinks} if demands else {}
    return TemplateOptions(json.dumps({**kwargs, **switched}, ensure_ascii=False), effort)


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
        kwargs = self.chat_template_kwargs
        demands = effort_demands(self.reasoning_effort, "reasoning_effort")
        if self.thinking.type is not None:
            demands.append(Demand("thinking.type", self.thinking.type == "enabled"))
        demands += [
            Demand(f"chat_template_kwargs.{name}", kwargs[name]) for name in SWITCHES if type(kwargs.get(name)) is bool
        ]
        if not model.thinks:
            options = to_template(model, demands, None, {})
            if self.thinking.clear_thinking is False:
                _refuse("thinking.clear_thinking")
            if not model.templated:
                self._check_without_template()
                return options
            others = {name: value for name, value in kwargs.items() if name not in SWITCHES}
            return TemplateOptions(json.dumps(others, ensure_ascii=False))
        said = [
            ("clear_thinking", "thinking.clear_thinking", self.thinking.clear_thinking),
            ("reasoning_effort", "reasoning_effort", self.reasoning_effort),
        ]
        for name, param, value in said:
            if value is not None and kwargs.get(name, value) != value:
                raise _contradiction(f"chat_template_kwargs.{name}", param)
        clear = self.thinking.clear_thinking
        if clear is not None:
            kwargs = {**kwargs, "clear_thinking": clear}
        return to_template(model, demands, self.reasoning_effort, kwargs)

    def _check_without_template(self) -> None:
        """Raise `ApiError` for what only a template can honour, apart from thinking."""
        for name, value in self.chat_template_kwargs.items():
            if name not in SWITCHES or type(value) is not bool:
                _refuse(f"chat_template_kwargs.{name}")


class ThinkingParametersSchema(RequestSchema):
    """The parameters of a chat that say whether the model thinks, and how much."""

    loads: ClassVar[type[Any]] = ThinkingParameters
    reasoning_effort = effort_field()
    thinking = NestedObject(ThinkingSchema, load_default=Thinking(), metadata={"default": {}})
    chat_template_kwargs = TemplateVariables(
        load_default=dict,
        metadata={
            "description": "Variables for the template of the model's file, such as `enable_thinking`: at most 64 KiB "
            "and 32 levels. A model without a template accepts nothing but `enable_thinking: false`.",
            "additionalProperties": True,
        },
    )
