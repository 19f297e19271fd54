"""The child's end of the socket to the web process. It blocks, and has no thread of its own."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from typing import Generic, TypeVar

from glm_api.pipeline.frames import RECEIVE_BYTES, Decoder, Frame, FrameBuffer, pack

F = TypeVar("F", bound=Frame)


class ParentGone(Exception):
    """The web process has closed its end of the socket."""


class Connection(Generic[F]):
    """Sends frames to ``fd``, a socket that the child has inherited, and receives those that ``decoder`` takes.

    Any thread may send; one thread receives.
    """

    def __init__(self, fd: int, decoder: Decoder[F]) -> None:
        self._socket = socket.socket(fileno=fd)
        # The web process's sockets are non-blocking, and this one has inherited the flag.
        self._socket.setblocking(True)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._sending = threading.Lock()
        self._buffer = FrameBuffer(decoder)
        self._frames: deque[F] = deque()
        self.received = 0
        """Bytes received so far."""

    def send(self, frame: Frame) -> None:
        """Send ``frame``. Raises `ParentGone`."""
        data = pack(frame)
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            raise ParentGone from None

    def receive(self, timeout: float | None = None) -> F | None:
        """Return the next frame, or None if none has come after ``timeout`` seconds.

        Raises `ParentGone` and `FrameError`.
        """
        while not self._frames:
            if timeout is not None and not self._poll.poll(timeout * 1000):
                return None
            self._read()
        return self._frames.popleft()

    def _read(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except OSError:
            raise ParentGone from None
        if not data:
            raise ParentGone
        self.received += len(data)
        self._frames.extend(self._buffer.feed(data))
