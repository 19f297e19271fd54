"""Load the model that a `LoadModel` frame names; every refusal is one line for the operator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glm_api.pipeline import formats
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.frames import LoadModel
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import chatglm_cpp
from glm_api.pipeline.worker.chatglm_cpp.tokenizer import PipelineTokenizer
from glm_api.pipeline.worker.memory import available_bytes, context_length, plan_slots
from glm_api.pipeline.worker.model_file import ModelFile, ModelFileError, inspect

logger = logging.getLogger(__name__)

# The tokenizer process needs no cache; this is the smallest that chatglm_cpp opens without complaint.
TOKENIZER_MAX_LENGTH = 16


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model. ``open_pipeline`` opens another cache slot over the same mapped file, ``slots`` in all."""

    file: ModelFile
    info: ModelInfo
    tokenizer: PipelineTokenizer
    format: Format
    pipeline: chatglm_cpp.Pipeline
    open_pipeline: Callable[[], chatglm_cpp.Pipeline]
    slots: int


def load_model(request: LoadModel, *, evaluates: bool) -> LoadedModel:
    """Load the model that ``request`` names. Raises `ModelFileError` and `BridgeError`.

    ``evaluates`` is False in the tokenizer process, which needs no caches.
    """
    bridge.set_threads(request.threads)
    file = inspect(Path(request.model))
    context = context_length(file.path.name, file.max_length, request.max_length)
    slots, slot_bytes = 1, file.slot_bytes(context)
    if evaluates:
        plan = plan_slots(file, context, request.cache_slots, available_bytes())
        slots, slot_bytes = plan.slots, plan.slot_bytes
    length = context if evaluates else min(TOKENIZER_MAX_LENGTH, context)

    def open_pipeline() -> chatglm_cpp.Pipeline:
        return chatglm_cpp.Pipeline(request.model, max_length=length)

    try:
        pipeline = open_pipeline()
        tokenizer = PipelineTokenizer(pipeline, file)
        # Not model_type: it has no name for GLM-4V.
        format = formats.format_for(pipeline.model.config.model_type_name, tokenizer)
    except (RuntimeError, ValueError, LookupError, MemoryError) as error:
        raise ModelFileError(f"chatglm-cpp cannot open {file.path.name}: {_one_line(error)}") from None
    if evaluates and not bridge.check(pipeline.model):
        logger.warning("This build of chatglm-cpp cannot be interrupted while it evaluates a prompt in one call.")
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
        opening=tokenizer.show(tokenizer.prefix),
        ending=tokenizer.ending,
    )
    return LoadedModel(file, info, tokenizer, format, pipeline, open_pipeline, slots)


def _one_line(error: BaseException) -> str:
    """Return the message of ``error`` without the source lines that chatglm_cpp puts in front."""
    text = " ".join(str(error).split())
    return text.split(") ", 1)[-1] if "check failed" in text else text
