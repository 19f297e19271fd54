"""Convert a request for a chat completion into a job for the pipeline."""

from __future__ import annotations

from glm_api.api.conversation import shown_image
from glm_api.chat.schemas import ChatRequest
from glm_api.context import pipeline
from glm_api.pipeline.job import Job


def prepare_job(request: ChatRequest) -> Job:
    """Return the job that ``request`` asks for. Raises `ApiError`, and `BackendError` from the tokenizer."""
    request.check_streaming()
    request.check_logprobs()
    model = pipeline.model
    request.check_sampling(model.vocabulary_size, request.limit)
    conversation = request.to_conversation(model)
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
