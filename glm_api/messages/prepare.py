"""Convert a request for a message into a job for the pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from glm_api.api.conversation import prompt_tokens, shown_image, with_output, with_tools
from glm_api.backend.errors import ContextLengthExceeded, PromptError
from glm_api.context import pipeline
from glm_api.errors import invalid
from glm_api.messages.content import to_messages
from glm_api.messages.schemas import MessageRequest, PromptParameters
from glm_api.pipeline.conversation import Conversation
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import ModelInfo

_CALL = re.compile(r"(messages\.\d+)\.(?:tool_call_id|tool_calls\b.*)")
_PARAMETERS = re.compile(r"(tools\.\d+)\.parameters\b")


def to_conversation(request: PromptParameters, model: ModelInfo) -> Conversation:
    """Return what ``model`` is asked. Raises `ApiError`."""
    choice = request.tool_choice
    if choice.type == "any" and not request.tools:
        raise invalid("Invalid 'tool_choice': 'any' needs tools.", "tool_choice")
    messages = to_messages(request.system, request.messages)
    parallel = not choice.disable_parallel_tool_use
    conversation = with_tools(messages, request.tools, choice.chosen, parallel, "tools.{}", "tool_choice")
    conversation = with_output(conversation, request.structured(request.output))
    return replace(conversation, template=request.template(model))


def prepare_job(request: MessageRequest) -> Job:
    """Return the job that ``request`` asks for. Raises `ApiError`, and `BackendError` from the tokenizer."""
    model = pipeline.model
    request.check_sampling(model.vocabulary_size, request.max_tokens)
    conversation = to_conversation(request, model)
    prompt = pipeline.encode_chat(conversation)
    return Job(
        prompts=[prompt.ids],
        max_tokens=request.max_tokens,
        sampling=request.sampling,
        stop=(*request.stop_sequences, *request.stops),
        output=prompt.output,
        image=shown_image(conversation),
    )


def count_tokens(request: PromptParameters) -> int:
    """Return how many tokens the prompt has. Of one that is far too long for the context it is a lower bound.

    Raises `ApiError`, and `BackendError` from the tokenizer.
    """
    try:
        return prompt_tokens(to_conversation(request, pipeline.model))
    except ContextLengthExceeded as error:
        return error.prompt_tokens


@contextmanager
def faults_in_content() -> Iterator[None]:
    """Let a `PromptError` that is raised inside name a parameter as it is called here."""
    try:
        yield
    except PromptError as error:
        raise error.at(_own_path(error.param)) from None


def _own_path(param: str | None) -> str | None:
    if param is None:
        return None
    return _PARAMETERS.sub(r"\1.input_schema", _CALL.sub(r"\1.content", param))
