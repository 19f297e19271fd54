"""Convert a request for a chat completion into a job for the pipeline."""

from __future__ import annotations

from glm_api.api.conversation import shown_image, to_conversation, with_output
from glm_api.api.messages import to_messages
from glm_api.api.response_format import structured_output
from glm_api.chat.schemas import ChatRequest
from glm_api.context import pipeline
from glm_api.pipeline.job import Job


def prepare_job(request: ChatRequest) -> Job:
    """Return the job that ``request`` asks for. Raises `ApiError`, and `BackendError` from the tokenizer."""
    request.check_streaming()
    request.check_logprobs()
    request.check_sampling(pipeline.model.vocabulary_size, request.limit)
    conversation = to_conversation(
        to_messages(request.messages),
        request.tools,
        request.tool_choice,
        request.parallel_tool_calls,
        request.functions,
        request.function_call,
    )
    format = request.response_format
    demanded = format.output("response_format", "response_format.json_schema.schema")
    structured = structured_output(demanded, request.json_schema, request.structured_outputs)
    conversation = with_output(conversation, structured, format.description)
    prompt = pipeline.encode_chat(conversation)
    return Job(
        prompts=[prompt.ids] * request.n,
        max_tokens=request.limit,
        sampling=request.sampling,
        stop=request.stops,
        output=prompt.output,
        image=shown_image(conversation),
        progress=request.return_progress,
    )
