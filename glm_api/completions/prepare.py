"""Convert a completion request into a job for the pipeline."""

from __future__ import annotations

from glm_api.backend.errors import ContextLengthExceeded, PromptError
from glm_api.completions.schemas import CompletionRequest, Prompt
from glm_api.context import pipeline
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import OutputSpec


def to_job(request: CompletionRequest) -> Job:
    """The work that ``request`` asks for. Raises `ApiError`, and `PipelineError` from the tokenizer."""
    request.check_streaming()
    prompts = [to_ids(prompt) for prompt in request.prompt]
    return Job(
        prompts=[ids for ids in prompts for _ in range(request.n)],
        max_tokens=request.max_tokens,
        sampling=request.sampling,
        stop=request.stops,
        output=OutputSpec(mode="text"),
        progress=request.return_progress,
    )


def to_ids(prompt: Prompt) -> list[int]:
    """A prompt's token ids: text gets the ids that open every prompt, given ids are taken as they are."""
    if isinstance(prompt, str):
        return pipeline.encode_text(prompt)
    # Ids that the tokenizer does not know bring the model down; decoding is what finds them.
    to_text(prompt)
    return prompt


def to_text(prompt: Prompt) -> str:
    """A prompt as text. Raises `PromptError` for ids that the model does not have, and `ContextLengthExceeded`."""
    if isinstance(prompt, str):
        return prompt
    context = pipeline.model.context_length
    if len(prompt) >= context:
        raise ContextLengthExceeded(len(prompt), context, param="prompt")
    try:
        return pipeline.decode(prompt)
    except PromptError as error:
        raise error.at("prompt") from None


def echoes(request: CompletionRequest) -> list[str]:
    """What is put in front of each choice: its prompt, where that was asked for."""
    texts = [to_text(prompt) if request.echo else "" for prompt in request.prompt]
    return [text for text in texts for _ in range(request.n)]
