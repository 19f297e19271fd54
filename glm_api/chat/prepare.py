"""Convert a chat completion request into a job for the pipeline."""

from __future__ import annotations

from dataclasses import replace

from glm_api.api.conversation import declared, instructed, shown_image
from glm_api.api.messages import to_messages
from glm_api.api.tools import to_choice, to_tools
from glm_api.chat.schemas import ChatRequest
from glm_api.context import pipeline
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Conversation
from glm_api.pipeline.job import Job


def to_conversation(request: ChatRequest) -> Conversation:
    """What the model is asked. Raises `ApiError`."""
    if request.functions and request.tools:
        raise invalid("Invalid 'functions': it is the legacy form of tools; send one of them.", "functions")
    messages = instructed(to_messages(request.messages), request.response_format)
    if request.legacy or request.function_call is not None:
        tools = to_tools(request.functions, "functions.{}.name")
        return Conversation(messages, tools, to_choice(request.function_call, tools, "function_call"))
    return Conversation(messages, *declared(request.tools, request.tool_choice))


def to_job(request: ChatRequest) -> Job:
    """The work that ``request`` asks for. Raises `ApiError`, and `PipelineError` from the tokenizer."""
    request.check_streaming()
    conversation = to_conversation(request)
    image = shown_image(conversation, "messages")
    prompt = pipeline.encode_chat(conversation)
    return Job(
        prompts=[prompt.ids] * request.n,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        sampling=request.sampling,
        stop=request.stops,
        output=replace(prompt.output, json_schema=request.response_format.demanded_schema),
        image=image,
        progress=request.return_progress,
    )
