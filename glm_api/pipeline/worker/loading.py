"""Load the model that a `LoadModel` frame names; every refusal is one line for the operator."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import chatglm_cpp

from glm_api.pipeline import formats
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.frames import LoadModel
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.worker.limited import LimitedTokenizer
from glm_api.pipeline.worker.memory import available_bytes, plan_slots
from glm_api.pipeline.worker.model_file import ModelFile, ModelFileError, inspect

logger = logging.getLogger(__name__)

# Caches cost memory in proportion to the context, so models that could read 131,072 tokens get this much unless
# GLM_MAX_LENGTH asks for more.
DEFAULT_MAX_LENGTH = 8192
# The tokenizer process needs no cache; this is the smallest that chatglm_cpp opens without complaint.
TOKENIZER_MAX_LENGTH = 16


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model. ``open_pipeline`` opens another cache slot over the same mapped file."""

    file: ModelFile
    info: ModelInfo
    tokenizer: LimitedTokenizer
    format: Format
    pipeline: chatglm_cpp.Pipeline
    open_pipeline: Callable[[], chatglm_cpp.Pipeline]
    slots: int


def load_model(request: LoadModel, *, evaluates: bool) -> LoadedModel:
    """Open the model; ``evaluates`` is false for a process that only needs the tokenizer. Raises `ModelFileError`."""
    file = inspect(Path(request.model))
    context = _context_length(file, request.max_length)
    slots, slot_bytes = 1, file.slot_bytes(context)
    if evaluates:
        plan = plan_slots(file, context, request.cache_slots, available_bytes())
        slots, slot_bytes = plan.slots, plan.slot_bytes
    length = context if evaluates else min(TOKENIZER_MAX_LENGTH, context)

    def open_pipeline() -> chatglm_cpp.Pipeline:
        pipeline = chatglm_cpp.Pipeline(request.model, max_length=length)
        if evaluates:
            reserve_graph_memory(pipeline, context)
        return pipeline

    try:
        pipeline = open_pipeline()
        tokenizer = LimitedTokenizer(pipeline, file)
        # model_type itself cannot be asked for: it has no name for GLM-4V.
        format = formats.load(pipeline.model.config.model_type_name, tokenizer)
    except (RuntimeError, ValueError, LookupError, MemoryError) as error:
        raise ModelFileError(f"chatglm-cpp cannot open {file.path.name}: {_one_line(error)}") from None
    if difference := format.check():
        logger.warning("%s", difference)
    if evaluates and file.vision is not None and file.image_tokens + len(format.image_ids) >= context:
        logger.warning(
            "An image takes %d tokens, and the context is only %d: every request with an image is refused. "
            "Raise GLM_MAX_LENGTH.",
            file.image_tokens + len(format.image_ids),
            context,
        )
    info = ModelInfo(
        family=format.family,
        context_length=context,
        vocabulary_size=file.vocabulary_size,
        characters_per_token=tokenizer.characters_per_token,
        supports_tools=format.supports_tools,
        supports_images=bool(format.image_ids),
        image_tokens=file.image_tokens,
        slots=slots,
        slot_bytes=slot_bytes,
        model_bytes=file.file_bytes,
    )
    return LoadedModel(file, info, tokenizer, format, pipeline, open_pipeline, slots)


def _context_length(file: ModelFile, wanted: int | None) -> int:
    if wanted is None:
        return min(file.max_length, DEFAULT_MAX_LENGTH)
    if wanted > file.max_length:
        raise ModelFileError(
            f"GLM_MAX_LENGTH is {wanted}, but {file.path.name} was made for at most {file.max_length} tokens. "
            "Lower it, or leave it out."
        )
    return wanted


def reserve_graph_memory(pipeline: chatglm_cpp.Pipeline, context: int) -> None:
    """Evaluate one token at the very end of the context, before anything else.

    chatglm_cpp's graph buffer is as large as the first prompts made it, and answers that grow long behind a short one
    are written past its end: with one token evaluated first, a tiny model corrupts the heap after 160 more, and larger
    ones after thousands. The buffer never shrinks, so one evaluation of the largest kind makes all others safe.
    """
    config = chatglm_cpp._C.GenerationConfig(do_sample=False)
    # The cache is not filled yet and may hold anything, NaN included, which chatglm_cpp notices and refuses.
    with contextlib.suppress(RuntimeError):
        pipeline.model.generate_next_token([0] * context, None, config, context - 1, context)


def _one_line(error: BaseException) -> str:
    """The error without the source lines that chatglm_cpp puts in front of its messages."""
    text = " ".join(str(error).split())
    return text.split(") ", 1)[-1] if "check failed" in text else text
