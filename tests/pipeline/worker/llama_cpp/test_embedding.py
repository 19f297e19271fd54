"""Embeddings from a scripted llama.cpp."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec
import pytest

from glm_api.pipeline.frames import Finished, Generate, Started
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.embedding import Embedding
from glm_api.pipeline.worker.llama_cpp.lost_ids import LostIds
from glm_api.pipeline.worker.llama_cpp.slots import SlotPool
from glm_api.pipeline.worker.llama_cpp.streamed import Model
from tests.support.model_files.fixtures import OpenModel

from .scripted import Chunk, Recorder, ScriptedClient

REQUEST = Generate(
    id=7,
    prompts=[[3, 4], [5]],
    sizes=[2, 1],
    limits=[0, 0],
    sampling=Sampling(),
    stop=(),
    output=OutputSpec(mode="embedding"),
    image=None,
    progress=False,
)


def found(*vectors: bytes) -> list[Chunk]:
    return [{"data": [{"embedding": base64.b64encode(vector).decode()} for vector in vectors]}]


def embedding(model: OpenModel, client: ScriptedClient, recorder: Recorder, **changed: Any) -> Embedding:
    tokenizer = model.tokenizer
    lost = LostIds(tokenizer.ids_by_bytes)
    loaded = Model(cast("Any", client), tokenizer, model.format, SlotPool(1), 99, 2, lost)
    return Embedding(loaded, msgspec.structs.replace(REQUEST, **changed), EventWriter(recorder, 7))


def test_each_prompt_has_one(open_demo: OpenModel) -> None:
    client, recorder = ScriptedClient(found(b"one."), found(b"two.")), Recorder()
    embedding(open_demo, client, recorder).run()
    assert [body["input"] for body in client.bodies] == [[3, 4], [5]]
    assert [event.embedding for event in recorder.events if isinstance(event, Finished)] == [b"one.", b"two."]
    assert [event for event in recorder.events if isinstance(event, Started)] == [Started(2, 0), Started(1, 0)]


def test_another_process_goes_on_with_what_is_left(open_demo: OpenModel) -> None:
    client, recorder = ScriptedClient(found(b"two.")), Recorder()
    embedding(open_demo, client, recorder, answered=1).run()
    assert [body["input"] for body in client.bodies] == [[5]]


def test_a_cancelled_request_ends(open_demo: OpenModel) -> None:
    client, recorder = ScriptedClient(found(b"one."), found(b"two.")), Recorder()
    cancelled = embedding(open_demo, client, recorder)
    cancelled.cancel()
    cancelled.run()
    assert [event.reason for event in recorder.events if isinstance(event, Finished)] == ["cancelled"]


def test_an_answer_without_an_embedding_is_an_error(open_demo: OpenModel) -> None:
    with pytest.raises(LlamaError):
        embedding(open_demo, ScriptedClient(found()), Recorder()).run()
