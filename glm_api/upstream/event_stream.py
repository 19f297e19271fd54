"""Split a stream of server-sent events into events, by the grammar of the HTML standard (9.2.5).

A line ends in LF, CR or CR LF, and an empty line ends an event. The stream may begin with a byte order mark.
"""

from __future__ import annotations

from collections.abc import Iterator

from glm_api.upstream import errors

# The last event of the Responses API holds the whole answer, and text outside ASCII may be written in six bytes a
# character: a megabyte or two. Without a bound an event that never ends would fill the memory.
LARGEST_EVENT = 8 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventSplitter:
    """Splits one stream. It looks at each byte once, even if an event comes in many pieces."""

    def __init__(self) -> None:
        self._begun = bytearray()  # what there is of an event that is not complete, without a line end behind it
        self._line_end = b""  # that line end: with a second one the event is complete
        self._after_carriage_return = False
        self._is_first = True

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the events that ``received`` completes, their lines separated by LF.

        All of them must be taken before the next call. Raises `ApiError` for an event that is larger than
        `LARGEST_EVENT`, after the events before it.
        """
        *ends, rest = (self._line_end + self._normalize(received)).split(b"\n\n")
        for end in ends:
            self._add(end)
            yield self._take()
        self._add(rest.removesuffix(b"\n"))
        self._line_end = rest[-1:] if rest.endswith(b"\n") else b""

    def end(self) -> bytes:
        """Return the event that the end of the stream has left without an empty line; it may be empty or cut."""
        return self._take()

    def _normalize(self, received: bytes) -> bytes:
        """Return ``received`` with LF for each line end.

        A CR becomes one at once, so an LF at the beginning of the next bytes is left out: it belongs to that CR.
        """
        if self._after_carriage_return and received:
            received = received.removeprefix(b"\n")
            self._after_carriage_return = False
        if b"\r" not in received:
            return received
        self._after_carriage_return = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _add(self, piece: bytes) -> None:
        self._begun += piece
        if len(self._begun) > LARGEST_EVENT:
            raise errors.unreadable()

    def _take(self) -> bytes:
        event = bytes(self._begun)
        self._begun.clear()
        if self._is_first:
            event, self._is_first = event.removeprefix(_BYTE_ORDER_MARK), False
        return event.lstrip(b"\n")
