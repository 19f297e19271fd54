"""An upstream that says what a test has written down, to the byte, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.processes import PATIENCE

MODELS = {"object": "list", "data": [{"id": "big-glm", "object": "model", "created": 7, "owned_by": "lab"}]}


@dataclass
class Script:
    """An answer: ``steps`` are bytes to send and events to wait for. Without ``length`` it ends with the connection."""

    steps: Sequence[bytes | threading.Event]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


def body(document: object, status: int = 200, **headers: str) -> Script:
    """A JSON answer."""
    content = json.dumps(document).encode()
    return Script([content], status, headers, len(content))


def sse(*payloads: object, done: bool = True) -> Script:
    """A stream of server-sent events."""
    events = [b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads]
    return Script([*events, *([b"data: [DONE]\n\n"] if done else [])], headers={"Content-Type": "text/event-stream"})


@dataclass
class ScriptedUpstream:
    """``script`` is what every POST gets, or what it gets for its body; ``asked`` holds path, headers and body of each.

    ``left`` is set when a client leaves while its answer waits for an event.
    """

    url: str = ""
    script: Script | Callable[[dict[str, Any]], Script] = field(default_factory=lambda: body({}))
    models: Script = field(default_factory=lambda: body(MODELS))
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    upstream: ScriptedUpstream

    def do_GET(self) -> None:
        self._answer(self.upstream.models)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.upstream.asked.append((self.path, headers, asked))
        script = self.upstream.script
        self._answer(script if isinstance(script, Script) else script(asked))

    def _answer(self, script: Script) -> None:
        begun = False
        for step in script.steps or [b""]:
            if isinstance(step, threading.Event):
                self._wait(step)
                continue
            if not begun:
                self.send_response(script.status)
                for name, value in script.headers.items():
                    self.send_header(name, value)
                if script.length is not None:
                    self.send_header("Content-Length", str(script.length))
                self.end_headers()
                begun = True
            self.wfile.write(step)

    def _wait(self, gate: threading.Event) -> None:
        """Until the gate opens or the client has gone, whichever is first."""

        def watch() -> None:
            try:
                at_end = self.connection.recv(1) == b""
            except OSError:
                at_end = True
            if at_end:
                self.upstream.left.set()
                gate.set()

        threading.Thread(target=watch, daemon=True).start()
        assert gate.wait(PATIENCE)

    def log_message(self, format: str, *args: object) -> None:
        """Not into the tests' output."""


@contextmanager
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    """A scripted upstream that listens."""
    upstream = ScriptedUpstream()
    handler = type("Handler", (_Handler,), {"upstream": upstream})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    upstream.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
