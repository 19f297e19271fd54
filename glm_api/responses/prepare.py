"""Convert a request for a response into a job for the pipeline."""

from __future__ import annotations

import re
from dataclasses import replace

from glm_api.api.conversation import instructed, shown_image, with_tools
from glm_api.backend.errors import PromptError
from glm_api.context import pipeline
from glm_api.pipeline.conversation import Conversation, Message
from glm_api.pipeline.job import Job
from glm_api.responses.items import to_messages
from glm_api.responses.schemas import ResponseRequest

_CALL_ID = re.compile(r"\.(tool_call_id|tool_calls\.\d+\.id)$")


def to_conversation(request: ResponseRequest) -> Conversation:
    """Return what the model is asked. Raises `ApiError`."""
    said = (Message("user", request.input),) if isinstance(request.input, str) else to_messages(request.input)
    before = (Message("system", request.instructions),) if request.instructions else ()
    messages = instructed((*before, *said), request.text.format.demand)
    return with_tools(messages, request.tools, request.tool_choice, "tools.{}.name", "tool_choice")


def prepare_job(request: ResponseRequest) -> Job:
    """Return the job that ``request`` asks for. Raises `ApiError`, and `BackendError` from the tokenizer."""
    request.check_logprobs()
    request.check_sampling(pipeline.model.vocabulary_size, request.limit)
    conversation = to_conversation(request)
    try:
        prompt = pipeline.encode_chat(conversation)
    except PromptError as error:
        raise error.at(as_input_path(error.param)) from None
    return Job(
        prompts=[prompt.ids],
        max_tokens=request.limit,
        sampling=request.sampling,
        stop=request.stops,
        output=replace(prompt.output, json_schema=request.text.format.demand.demanded_schema),
        image=shown_image(conversation),
    )


def as_input_path(param: str | None) -> str | None:
    """Return the path of a fault in ``messages`` as the path of its item in ``input``."""
    if param is None or not param.startswith("messages"):
        return param
    return _CALL_ID.sub(".call_id", param.replace("messages", "input", 1))
