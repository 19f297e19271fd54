"""A stand-in for the Hugging Face Hub: it answers what huggingface_hub asks to download a file, over real sockets.

The Hub redirects downloads of large files to another host. Here the other host is the same server under its other name,
``localhost``.
"""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote

COMMIT = "5a" * 20


@dataclass(frozen=True, slots=True)
class Request:
    """A received request. ``range`` and ``authorization`` are its headers."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class HubServer:
    """Serves ``files`` (``OWNER/REPO/FILE`` -> content) in the revisions ``main`` and `COMMIT`.

    ``refusal``: the status and X-Error-Code that the Hub answers instead. ``announced``: a SHA-256 to announce in place
    of the right one. ``break_after``: the next download ends after so many bytes; with ``hold``, it stalls there until
    the server is closed.
    """

    files: dict[str, bytes]
    refusal: tuple[int, str] | None = None
    announced: str | None = None
    break_after: int | None = None
    hold: bool = False
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def storage_url(self) -> str:
        return f"http://localhost:{self._server.server_port}"

    def downloads(self) -> list[str | None]:
        """The ranges of the received downloads; None for a whole file."""
        return [request.range for request in self.requests if request.path.startswith("/storage/")]

    def close(self) -> None:
        """Stop serving; connections are refused from now on. Idempotent."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubServer]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        headers = self.headers
        self.hub.requests.append(Request(self.command, self.path, headers["Range"], headers["Authorization"]))
        if stored := re.fullmatch(r"/storage/(.+)", self.path):
            self._send_file(self.hub.files[unquote(stored[1])])
        elif self.hub.refusal is not None:
            self._send(self.hub.refusal[0], {"X-Error-Code": self.hub.refusal[1]})
        else:
            resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            assert resolve is not None, self.path
            self._resolve(resolve[1], resolve[2], resolve[3])

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        content = self.hub.files.get(unquote(f"{repo}/{path}"))
        if not any(name.startswith(f"{repo}/") for name in self.hub.files):
            self._send(HTTPStatus.UNAUTHORIZED, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self._send(HTTPStatus.NOT_FOUND, {"X-Error-Code": "RevisionNotFound"})
        elif content is None:
            self._send(HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            facts = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{self.hub.announced or hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
                "ETag": '"of-the-redirect"',
                "Location": f"{self.hub.storage_url}/storage/{repo}/{path}",
            }
            self._send(HTTPStatus.FOUND, facts)

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, content: bytes) -> None:
        begin = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""):
            begin = int(asked[1])
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end, self.hub.break_after = self.hub.break_after, None
        self.wfile.write(content[begin:end])
        if end is not None:
            if self.hub.hold:
                self.hub.closing.wait()
            self.close_connection = True
