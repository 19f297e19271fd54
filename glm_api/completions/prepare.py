"""Convert a request for a text completion into a job for the pipeline."""

from __future__ import annotations

from dataclasses import replace

from glm_api.api.prompts import tokenized
from glm_api.completions.logprobs import Echo
from glm_api.completions.schemas import CompletionRequest
from glm_api.context import pipeline
from glm_api.errors import invalid
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import OutputSpec

# The log-probabilities of prompts come in one piece. So many take about 100 MB of memory and a second.
MAX_PROMPT_LOGPROBS = 2**18


def prepare_job(request: CompletionRequest) -> tuple[Job, list[Echo]]:
    """Return the job that ``request`` asks for, and the echo that goes in front of each choice, which may be empty.

    Raises `ApiError`, and `BackendError` from the tokenizer.
    """
    request.check_streaming()
    request.check_echo()
    request.check_sampling(pipeline.model.vocabulary_size, request.limit)
    prompts = [tokenized(prompt, "prompt") for prompt in request.prompt]
    if request.prompt_logprobs:
        _check_prompt_logprobs(request, sum(len(ids) for _, ids in prompts))
    job = Job(
        prompts=[ids for _, ids in prompts for _ in range(request.n)],
        max_tokens=request.limit,
        sampling=replace(request.sampling, prompt_logprobs=request.prompt_logprobs),
        stop=request.stops,
        output=_output(request),
        progress=request.return_progress,
    )
    return job, [echo for text, ids in prompts for echo in [_echo(request, text, ids)] * request.n]


def _check_prompt_logprobs(request: CompletionRequest, tokens: int) -> None:
    """Raise `ApiError` for more log-probabilities of prompts, of ``tokens`` in all, than one answer may hold."""
    found = tokens * request.n * (1 + (request.logprobs or 0))
    if found > MAX_PROMPT_LOGPROBS:
        raise invalid(
            f"Invalid 'logprobs': with echo, they make {found} log-probabilities of prompt tokens; at most "
            f"{MAX_PROMPT_LOGPROBS} are returned at a time. Send fewer prompts in each request.",
            "logprobs",
        )


def _echo(request: CompletionRequest, text: str, ids: list[int]) -> Echo:
    if not request.echo:
        return Echo()
    return Echo(text, pipeline.decode(ids[:1]) if request.prompt_logprobs else None)


def _output(request: CompletionRequest) -> OutputSpec:
    """Return how to read the answers. Raises `ApiError`, and `PromptError` for what no answer can be held to."""
    structured = request.structured(request.response_format.output)
    return OutputSpec(mode="text") if structured is None else pipeline.text_output(structured)
