"""Run a child: set up the process, load the model, and serve frames until the web process goes away."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from glm_api.log import faults

if __name__ == "__main__":
    # Before anything else can fail. The web process puts each line that this process prints into its log.
    faults.catch(lambda what, error: print(f"{what}: {faults.describe(error)}", file=sys.stderr, flush=True))

from glm_api.pipeline.frames import (
    TO_PIPELINE,
    TO_TOKENIZER,
    Frame,
    FrameError,
    LoadFailed,
    LoadModel,
    Ready,
    ToPipeline,
    ToTokenizer,
)
from glm_api.pipeline.worker.answering import Answerer
from glm_api.pipeline.worker.bridge import BridgeError
from glm_api.pipeline.worker.confine import confine
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.engine import Engine
from glm_api.pipeline.worker.evaluation import Evaluator
from glm_api.pipeline.worker.loading import LoadedModel, load_model
from glm_api.pipeline.worker.memory import longest_batch
from glm_api.pipeline.worker.model_file import ModelFileError
from glm_api.pipeline.worker.slots import SlotPool
from glm_api.pipeline.worker.tokenizer_service import TokenizerService

F = TypeVar("F", bound=Frame)
MakeService = Callable[[Connection[F], LoadModel, LoadedModel], Engine | TokenizerService]


def main(role: str, fd: int, parent: int) -> None:
    """Run as the ``role`` of the web process ``parent`` until that closes the socket ``fd``.

    Raises `FrameError` when the web process sends a frame that does not fit.
    """
    confine(parent)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if role == "pipeline":
            _serve(Connection(fd, TO_PIPELINE), _engine, evaluates=True)
        else:
            _serve(Connection(fd, TO_TOKENIZER), _tokenizer_service, evaluates=False)
    except ParentGone:
        pass


def _serve(connection: Connection[F], make_service: MakeService[F], *, evaluates: bool) -> None:
    """Load the model and answer requests. Raises `ParentGone` and `FrameError`."""
    request = connection.receive()
    if not isinstance(request, LoadModel):
        raise FrameError("the first frame must be LoadModel")
    try:
        model = load_model(request, evaluates=evaluates)
    except (ModelFileError, BridgeError) as error:
        connection.send(LoadFailed(str(error)))
        return
    service = make_service(connection, request, model)
    connection.send(Ready(model.info))
    service.serve()


def _engine(connection: Connection[ToPipeline], request: LoadModel, model: LoadedModel) -> Engine:
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
    return Engine(connection, answerer)


def _tokenizer_service(connection: Connection[ToTokenizer], request: LoadModel, model: LoadedModel) -> TokenizerService:
    return TokenizerService(connection, model.tokenizer, model.format)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
