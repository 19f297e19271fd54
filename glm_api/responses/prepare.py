"""Convert a request for a response into a job for the pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from glm_api.api.conversation import prompt_tokens, shown_image, with_output, with_tools
from glm_api.api.thinking import effort_demands, effort_variable, to_template
from glm_api.backend.errors import PromptError
from glm_api.context import pipeline
from glm_api.pipeline.conversation import Conversation, Message, TemplateOptions
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import ModelInfo
from glm_api.responses.history import History
from glm_api.responses.items import to_messages
from glm_api.responses.schemas import ResponseRequest

_CALL_ID = re.compile(r"\.(tool_call_id|tool_calls\.\d+\.id)$")
_EARLIER = re.compile(r"messages\.-\d+(\..*)?")


def to_conversation(request: ResponseRequest, history: History, model: ModelInfo) -> Conversation:
    """Return what ``model`` is asked. Raises `ApiError`."""
    said = to_messages((*history.earlier, *history.own), earlier=len(history.earlier))
    before = (Message("system", request.instructions),) if request.instructions else ()
    conversation = with_tools(
        (*before, *said), request.tools, request.tool_choice, request.parallel_tool_calls, "tools.{}", "tool_choice"
    )
    format = request.text.format
    conversation = with_output(conversation, request.structured(format.output), format.description)
    return replace(conversation, template=_template(request, model))


def _template(request: ResponseRequest, model: ModelInfo) -> TemplateOptions:
    param, effort = "reasoning.effort", request.reasoning.effort
    return to_template(
        model,
        effort_demands(effort, param),
        request.chat_template_kwargs,
        effort_variable(param, effort),
    )


def prepare_job(request: ResponseRequest, history: History) -> Job:
    """Return the job that ``request`` asks for with this ``history``.

    Raises `ApiError`, and `BackendError` from the tokenizer.
    """
    request.check_logprobs()
    model = pipeline.model
    request.check_sampling(model.vocabulary_size, request.limit)
    conversation = to_conversation(request, history, model)
    prompt = pipeline.encode_chat(conversation)
    return Job(
        prompts=[prompt.ids],
        max_tokens=request.limit,
        sampling=request.sampling,
        stop=request.stops,
        output=prompt.output,
        image=shown_image(conversation),
    )


def count_tokens(request: ResponseRequest, history: History) -> int:
    """Return the length of the prompt in tokens. Raises `ApiError`, and `BackendError` from the tokenizer."""
    return prompt_tokens(to_conversation(request, history, pipeline.model))


@contextmanager
def faults_in_input() -> Iterator[None]:
    """Let a `PromptError` that is raised inside name a part of ``input`` instead of ``messages``."""
    try:
        yield
    except PromptError as error:
        raise error.at(as_input_path(error.param)) from None


def as_input_path(param: str | None) -> str | None:
    """Return the path of a fault in ``messages`` as the path of its item in ``input``.

    An item that the input does not have is one of the previous response's conversation.
    """
    if param is not None and _EARLIER.fullmatch(param):
        return "previous_response_id"
    if param is None or not param.startswith("messages"):
        return param
    return _CALL_ID.sub(".call_id", param.replace("messages", "input", 1))
