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

from glm_api.pipeline.frames import TO_PIPELINE, TO_TOKENIZER, Frame, FrameError, LoadFailed, LoadModel, Ready
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.worker.confine import confine
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.service import Engine, LoadError, Service

F = TypeVar("F", bound=Frame)


def main(role: str, fd: int, parent: int) -> None:
    """Run as the ``role`` of the web process ``parent`` until that closes the socket ``fd``.

    Raises `FrameError` when the web process sends a frame that does not fit.
    """
    confine(parent)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if role == "pipeline":
            pipeline = Connection(fd, TO_PIPELINE)
            _serve(pipeline, lambda request: engine(request).pipeline_service(pipeline, request))
        else:
            tokenizer = Connection(fd, TO_TOKENIZER)
            _serve(tokenizer, lambda request: engine(request).tokenizer_service(tokenizer, request))
    except ParentGone:
        pass


def _serve(connection: Connection[F], load: Callable[[LoadModel], tuple[ModelInfo, Service]]) -> None:
    """Load the model and answer requests. Raises `ParentGone` and `FrameError`."""
    request = connection.receive()
    if not isinstance(request, LoadModel):
        raise FrameError("the first frame must be LoadModel")
    try:
        info, service = load(request)
    except LoadError as error:
        connection.send(LoadFailed(str(error)))
        return
    connection.send(Ready(info))
    service.serve()


def engine(request: LoadModel) -> Engine:
    """Return the services of the engine that shall compute. Only that engine is imported."""
    if request.engine == "llama-cpp":
        from glm_api.pipeline.worker.llama_cpp import services as llama_cpp

        return llama_cpp
    from glm_api.pipeline.worker.chatglm_cpp import services as chatglm_cpp

    return chatglm_cpp


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
