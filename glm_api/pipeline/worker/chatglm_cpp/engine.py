"""The service of the pipeline process: answer requests, and listen to the web process in another thread meanwhile.

chatglm_cpp computes without Python's lock (`worker.bridge`), so the listening thread runs all the while. It ends the
computation when the generation is cancelled or the web process goes away, and tells the web process that the model
computes.
"""

from __future__ import annotations

import queue
import threading

from glm_api.pipeline.frames import Cancel, Generate, ToPipeline
from glm_api.pipeline.worker.chatglm_cpp.answering import Answerer
from glm_api.pipeline.worker.connection import Connection

# How often the web process hears of a generation that says nothing else. Seconds.
ALIVE_SECONDS = 1.0


class Engine:
    """Answers the requests of the web process, one at a time."""

    def __init__(self, connection: Connection[ToPipeline], answerer: Answerer) -> None:
        self._connection = connection
        self._answerer = answerer
        # An exception stands for the end of listening.
        self._requests: queue.SimpleQueue[Generate | BaseException] = queue.SimpleQueue()

    def serve(self) -> None:
        """Answer requests until the web process goes away. Raises `ParentGone` and `FrameError`."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        self._answerer.warm_up()
        while True:
            request = self._requests.get()
            if isinstance(request, BaseException):
                raise request
            self._answerer.answer(request)

    def _listen(self) -> None:
        latest: int | None = None
        try:
            while True:
                frame = self._connection.receive(ALIVE_SECONDS if self._answerer.busy else None)
                if isinstance(frame, Generate):
                    # The web process sends a request when the one before it is answered.
                    latest = frame.id
                    self._answerer.prepare()
                    self._requests.put(frame)
                elif isinstance(frame, Cancel):
                    # One that comes too late names a generation that is over.
                    if frame.id == latest:
                        self._answerer.cancel()
                elif frame is None:
                    self._answerer.tell_alive()
        except BaseException as error:
            self._answerer.cancel()
            self._requests.put(error)
