"""Convert a request for a text completion into a job for the pipeline."""

from __future__ import annotations

from glm_api.backend.errors import ContextLengthExceeded, PromptError
from glm_api.completions.schemas import CompletionRequest, PromptInput
from glm_api.context import pipeline
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import OutputSpec


def prepare_job(request: CompletionRequest) -> tuple[Job, list[str]]:
    """Return the job that ``request`` asks for, and the echo that goes in front of each choice, which may be empty.

    Raises `ApiError`, and `BackendError` from the tokenizer.
    """
    request.check_streaming()
    request.check_sampling(pipeline.model.vocabulary_size, request.max_tokens)
    prompts = [_tokenized(prompt) for prompt in request.prompt]
    job = Job(
        prompts=[ids for _, ids in prompts for _ in range(request.n)],
        max_tokens=request.max_tokens,
        sampling=request.sampling,
        stop=request.stops,
        output=OutputSpec(mode="text"),
        progress=request.return_progress,
    )
    return job, [text if request.echo else "" for text, _ in prompts for _ in range(request.n)]


def _tokenized(prompt: PromptInput) -> tuple[str, list[int]]:
    """Return a prompt as text and as token ids; text gets the ids that open every prompt, given ids stay as they are.

    Raises `PromptError` for ids that the model does not have, and `ContextLengthExceeded`.
    """
    if isinstance(prompt, str):
        return prompt, pipeline.encode_text(prompt)
    context = pipeline.model.context_length
    if len(prompt) >= context:
        raise ContextLengthExceeded(len(prompt), context, param="prompt")
    try:
        # An id without a token would bring the model down: decoding finds it.
        return pipeline.decode(prompt), prompt
    except PromptError as error:
        raise error.at("prompt") from None
