"""The child's end of the socket to the web process: blocking, and without a thread of its own."""

from __future__ import annotations

import select
import socket
from collections import deque

from glm_api.pipeline.frames import Frame, FrameBuffer, pack

RECEIVE_BYTES = 256 * 1024


class ParentGone(Exception):
    """The web process has closed its end: there is nobody to work for."""


class Connection:
    """Frames in and out of ``fd``, which the child has inherited."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        # It comes from a process whose sockets are non-blocking, and the flag is inherited with it.
        self._socket.setblocking(True)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._buffer = FrameBuffer()
        self._frames: deque[Frame] = deque()
        self.received = 0
        """Bytes that have come so far."""

    def send(self, frame: Frame) -> None:
        """Send ``frame``. Raises `ParentGone`."""
        try:
            self._socket.sendall(pack(frame))
        except OSError:
            raise ParentGone from None

    def receive(self) -> Frame:
        """Wait for the next frame. Raises `ParentGone`."""
        while not self._frames:
            self._read()
        return self._frames.popleft()

    def receive_nowait(self) -> Frame | None:
        """The next frame if there is one; costs one system call when there is none. Raises `ParentGone`."""
        if not self._frames and self._poll.poll(0):
            self._read()
        return self._frames.popleft() if self._frames else None

    def _read(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except OSError:
            raise ParentGone from None
        if not data:
            raise ParentGone
        self.received += len(data)
        self._frames.extend(self._buffer.feed(data))
