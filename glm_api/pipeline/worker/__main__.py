"""Entry point of both children: confine the process, open the model, serve frames until the web process goes away."""

from __future__ import annotations

import logging
import sys

from glm_api.log import faults

if __name__ == "__main__":
    # Before anything else can fail: what this process prints is put into the log line by line.
    faults.catch(lambda what, error: print(f"{what}: {faults.describe(error)}", file=sys.stderr, flush=True))

import chatglm_cpp

from glm_api.pipeline.frames import LoadFailed, Open, Ready
from glm_api.pipeline.worker.confine import confine
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.engine import Engine
from glm_api.pipeline.worker.evaluation import Evaluator
from glm_api.pipeline.worker.images import decode_image
from glm_api.pipeline.worker.loading import OpenModel, open_model
from glm_api.pipeline.worker.memory import longest_batch
from glm_api.pipeline.worker.model_file import ModelFileError
from glm_api.pipeline.worker.slots import SlotPool
from glm_api.pipeline.worker.tokenizer_service import TokenizerService

# Below this the model's logits, divided by the temperature, leave the range of a float: greedy is what is meant.
LOWEST_TEMPERATURE = 1e-3


def main(role: str, fd: int, parent: int) -> None:
    """Run as the web process's ``role`` until it closes the socket ``fd``."""
    confine(parent)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    connection = Connection(fd)
    try:
        opening = connection.receive()
        assert isinstance(opening, Open)
        model = open_model(opening, evaluates=role == "pipeline")
        if role == "pipeline":
            service: Engine | TokenizerService = _engine(connection, model, opening)
        else:
            service = TokenizerService(connection, model.tokenizer, model.format)
        connection.send(Ready(model.info.to_json()))
        service.serve()
    except ModelFileError as error:
        connection.send(LoadFailed(str(error)))
    except ParentGone:
        pass


def _engine(connection: Connection, model: OpenModel, opening: Open) -> Engine:
    pool = SlotPool(model.slots, model.open_pipeline, model.pipeline)
    evaluator = Evaluator(opening.prefill, longest_batch(model.file), whole_prompts=not model.format.reuses_prefix)
    return Engine(connection, model.format, pool, evaluator, generation_config, decode_image)


def generation_config(
    temperature: float, top_p: float, top_k: int, repetition_penalty: float
) -> chatglm_cpp._C.GenerationConfig:
    """chatglm_cpp's configuration; temperature 0 and top_p 0 both mean the likeliest token."""
    return chatglm_cpp._C.GenerationConfig(
        do_sample=temperature >= LOWEST_TEMPERATURE and top_p > 0,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
