"""llama.cpp in a process of its own: ``python -m tests.support.llama_cpp MODEL SOCKET`` serves until it is killed."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import PATIENCE, ROOT


class LlamaServer:
    """A server that listens on a Unix socket."""

    def __init__(self, address: Path) -> None:
        self._address = address

    def post(self, path: str, **body: Any) -> Any:
        """Return the answer to a request. Raises AssertionError for a status other than 200."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(str(self._address))
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """Return the ids of the likeliest answer, of ``count`` ids at the most."""
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "return_tokens": True, "cache_prompt": True}
        ids: list[int] = self.post("/completion", **body)["tokens"]
        return ids

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of ordinary text, without special ones."""
        ids: list[int] = self.post("/tokenize", content=text, add_special=False, parse_special=False)["tokens"]
        return ids


@contextmanager
def llama_server(model: Path, folder: Path) -> Iterator[LlamaServer]:
    """Serve ``model``; ``folder`` takes the socket and must have a short path."""
    address = folder / "llama.sock"
    # A socket that is left makes it fail.
    address.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.support.llama_cpp", str(model), str(address)]
    log = folder / "llama.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), log.read_text()
        yield LlamaServer(address)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Serve the model until this process is killed, or its parent has gone."""
    import xllamacpp

    model, address = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel, params.warmup, params.ui = 2048, 1, False, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    params.hostnames = [address]
    server = xllamacpp.Server(params)
    print(f"Listening on {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
