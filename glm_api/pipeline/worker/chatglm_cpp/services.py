"""What the two children do with chatglm-cpp; see `worker.service.Engine`."""

from __future__ import annotations

from glm_api.pipeline.frames import LoadModel, ToPipeline, ToTokenizer
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.worker.chatglm_cpp.answering import Answerer
from glm_api.pipeline.worker.chatglm_cpp.engine import Engine
from glm_api.pipeline.worker.chatglm_cpp.evaluation import Evaluator
from glm_api.pipeline.worker.chatglm_cpp.loading import load_model
from glm_api.pipeline.worker.chatglm_cpp.slots import SlotPool
from glm_api.pipeline.worker.connection import Connection
from glm_api.pipeline.worker.memory import longest_batch
from glm_api.pipeline.worker.tokenizer_service import TokenizerService


def pipeline_service(connection: Connection[ToPipeline], request: LoadModel) -> tuple[ModelInfo, Engine]:
    """Load the model and return what answers prompts. Raises `LoadError`."""
    model = load_model(request, evaluates=True)
    pool = SlotPool(model.slots, model.open_pipeline, model.pipeline)
    evaluator = Evaluator(
        request.prefill,
        longest_batch(model.file),
        request.threads,
        model.info.context_length,
        whole_prompts=not model.format.reuses_prefix,
    )
    answerer = Answerer(
        connection,
        model.format,
        pool,
        evaluator,
        model.tokenizer,
        model.info.vocabulary_size,
        lambda grammar: model.tokenizer.constraints.compile(grammar),
    )
    return model.info, Engine(connection, answerer)


def tokenizer_service(connection: Connection[ToTokenizer], request: LoadModel) -> tuple[ModelInfo, TokenizerService]:
    """Load the model and return what answers questions about tokens. Raises `LoadError`."""
    model = load_model(request, evaluates=False)
    return model.info, TokenizerService(connection, model.tokenizer, model.format)
