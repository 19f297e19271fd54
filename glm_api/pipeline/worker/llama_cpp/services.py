"""What the two children do with llama.cpp; see `worker.service.Engine`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from glm_api.pipeline import formats
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.frames import Generate, LoadModel, ToPipeline, ToTokenizer
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.connection import Connection
from glm_api.pipeline.worker.gguf_file import GgufFile, inspect_gguf
from glm_api.pipeline.worker.llama_cpp.answering import Answer
from glm_api.pipeline.worker.llama_cpp.batch import cpu_batch_tokens
from glm_api.pipeline.worker.llama_cpp.chat import ChatAnswer
from glm_api.pipeline.worker.llama_cpp.embedding import Embedding
from glm_api.pipeline.worker.llama_cpp.engine import Engine, RunningAnswer
from glm_api.pipeline.worker.llama_cpp.lost_ids import LostIds
from glm_api.pipeline.worker.llama_cpp.server import LlamaServer, ServerSettings, has_gpu
from glm_api.pipeline.worker.llama_cpp.slots import SlotPool
from glm_api.pipeline.worker.llama_cpp.streamed import Model
from glm_api.pipeline.worker.llama_cpp.template import TemplateFormat
from glm_api.pipeline.worker.llama_cpp.tokenizer import LlamaTokenizer
from glm_api.pipeline.worker.memory import available_bytes, context_length, plan_slots
from glm_api.pipeline.worker.service import LoadError
from glm_api.pipeline.worker.tokenizer_service import TokenizerService

logger = logging.getLogger(__name__)

# The tokenizer process needs no cache.
_TOKENIZER_CONTEXT = 16


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    file: GgufFile
    info: ModelInfo
    server: LlamaServer
    tokenizer: LlamaTokenizer
    format: Format


def pipeline_service(connection: Connection[ToPipeline], request: LoadModel) -> tuple[ModelInfo, Engine]:
    """Load the model and return what answers prompts. Raises `LoadError`."""
    loaded = _load(request, computes=True)
    pool = SlotPool(loaded.info.parallel)
    model = Model(
        loaded.server.client,
        loaded.tokenizer,
        loaded.format,
        pool,
        loaded.info.context_length,
        request.threads,
        LostIds(loaded.tokenizer.ids_by_bytes),
    )

    def answer(request: Generate, writer: EventWriter) -> RunningAnswer:
        if request.output.mode == "embedding":
            return Embedding(model, request, writer)
        return (Answer if request.output.chat is None else ChatAnswer)(model, request, writer)

    return loaded.info, Engine(connection, answer)


def tokenizer_service(connection: Connection[ToTokenizer], request: LoadModel) -> tuple[ModelInfo, TokenizerService]:
    """Load the model and return what answers questions about tokens. Raises `LoadError`."""
    loaded = _load(request, computes=False)
    return loaded.info, TokenizerService(connection, loaded.tokenizer, loaded.format)


def _is_glm(file: GgufFile) -> bool:
    """Return whether it is a GLM. GLM-4.7-Flash has the architecture of another one."""
    return "glm" in file.architecture or "glm" in file.tokenizer_pre


def _memory_left(file: GgufFile) -> int | None:
    """Return the bytes of memory that are free when the weights are in it; None if unknown. Raises `LoadError`."""
    available = available_bytes()
    if available is None:
        return None
    if file.file_bytes > available:
        raise LoadError(
            f"{file.path.name} needs {file.file_bytes / 2**30:.1f} GiB of memory, but only {available / 2**30:.1f} GiB "
            "are available. Choose a smaller model, or one whose weights have fewer bits."
        )
    return available - file.file_bytes


def _load(request: LoadModel, *, computes: bool) -> _LoadedModel:
    file = inspect_gguf(Path(request.model))
    context = context_length(file.path.name, file.context_length, request.max_length)
    slots, slot_bytes = request.cache_slots, file.slot_bytes(context)
    # What a GPU has room for, only llama.cpp knows.
    if computes and (request.gpu_layers == 0 or not has_gpu()):
        slots = plan_slots(file, context, request.cache_slots, _memory_left(file)).slots
    settings = ServerSettings(
        model=file.path,
        context=context if computes else _TOKENIZER_CONTEXT,
        slots=slots if computes else 1,
        threads=request.threads if computes else 1,
        cpu_batch_tokens=cpu_batch_tokens(file, request.threads),
        projector=request.projector,
        gpu_layers=request.gpu_layers,
        computes=computes,
    )
    server = LlamaServer(settings)
    tokenizer = LlamaTokenizer(file, server)
    if computes and not _is_glm(file):
        logger.warning("%s is a model of another kind (%s): only GLM is tested.", file.path.name, file.architecture)
    format: Format
    if file.family is None:
        format = TemplateFormat(file.architecture, tokenizer, server)
    else:
        format = formats.format_for(file.family, tokenizer)
    info = ModelInfo(
        family=format.family,
        context_length=context,
        vocabulary_size=file.vocabulary_size,
        characters_per_token=tokenizer.characters_per_token,
        supports_tools=format.supports_tools,
        supports_images=isinstance(format, TemplateFormat) and format.supports_images,
        thinks=isinstance(format, TemplateFormat) and format.thinks,
        templated=isinstance(format, TemplateFormat),
        image_tokens=0,
        slots=slots,
        slot_bytes=slot_bytes,
        model_bytes=file.file_bytes,
        parallel=slots,
        opening=tokenizer.show(tokenizer.prefix),
        ending=tokenizer.ending,
        template=file.chat_template or "",
    )
    return _LoadedModel(file, info, server, tokenizer, format)
