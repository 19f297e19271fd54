"""The service of the pipeline process: listen to the web process in one thread, and answer prompts in another.

chatglm_cpp computes without Python's lock (`worker.bridge`), so the listening thread runs all the while. It ends the
computation when the generation is cancelled or the web process goes away, and tells the web process that the model
computes.
"""

from __future__ import annotations

import os
import queue
import threading

from glm_api.log.faults import describe
from glm_api.pipeline.frames import Cancel, Generate, ToPipeline
from glm_api.pipeline.worker import bridge
from glm_api.pipeline.worker.answering import Answerer
from glm_api.pipeline.worker.connection import Connection, ParentGone

# How often the web process hears of a generation that says nothing else. Seconds.
ALIVE_SECONDS = 1.0


class Engine:
    """Answers the requests of the web process, one at a time."""

    def __init__(self, connection: Connection[ToPipeline], answerer: Answerer) -> None:
        self._connection = connection
        self._answerer = answerer
        self._requests: queue.SimpleQueue[Generate | None] = queue.SimpleQueue()
        # The id of the latest request. The web process sends the next one when this one is answered.
        self._latest: int | None = None

    def serve(self) -> None:
        """Answer requests until the web process goes away. Raises `ParentGone` and `FrameError`."""
        answering = threading.Thread(target=self._answer_all, name="answering", daemon=True)
        answering.start()
        try:
            while True:
                frame = self._connection.receive(ALIVE_SECONDS if self._answerer.busy else None)
                if isinstance(frame, Generate):
                    self._latest = frame.id
                    self._answerer.prepare()
                    self._requests.put(frame)
                elif isinstance(frame, Cancel):
                    # One that comes too late names a generation that is over.
                    if frame.id == self._latest:
                        self._answerer.cancel()
                elif frame is None:
                    self._answerer.tell_alive()
        finally:
            self._answerer.cancel()
            self._requests.put(None)
            answering.join()
            bridge.abort(False)

    def _answer_all(self) -> None:
        try:
            while (request := self._requests.get()) is not None:
                self._answerer.answer(request)
        except ParentGone:
            # The listening thread is told so too.
            pass
        except BaseException as error:
            # Without this thread the process is of no use: the web process starts another one.
            print(f"The answering thread failed: {describe(error)}", flush=True)
            os._exit(1)
