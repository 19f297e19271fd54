"""Run llama.cpp's own server with a GGUF model file: ``python -m tests.support.upstream.llama_server MODEL PORT``."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import xllamacpp

SLOTS = 2
CONTEXT = 4096


def serve(
    model: Path,
    port: int,
    *,
    projector: Path | None = None,
    api_key: str | None = None,
    context: int = CONTEXT,
    endless: bool = False,
) -> xllamacpp.Server:
    """A server that listens on 127.0.0.1, in threads of its own, with its model loaded.

    ``context``: in tokens; each slot has its share of it. ``endless``: an answer goes on beyond it, until its
    ``max_tokens`` or its client's leaving, as with ``llama-server --context-shift``.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.mmproj.path = str(projector) if projector else ""
    params.model_alias = {model.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.api_keys = [api_key] if api_key else []
    params.n_ctx = context
    params.ctx_shift = endless
    params.n_parallel = SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    # A connection that is kept open holds a thread; the default of six would keep questions about the slots waiting.
    params.n_threads_http = 32
    params.endpoint_slots = params.endpoint_metrics = True
    params.ui = False
    return xllamacpp.Server(params)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="tests.support.upstream.llama_server")
    parser.add_argument("model", type=Path, help="the GGUF file; the model has its name")
    parser.add_argument("port", type=int)
    parser.add_argument("--projector", type=Path, help="the GGUF file of what reads images")
    parser.add_argument("--api-key", help="what clients must send as their bearer token")
    parser.add_argument("--context", type=int, default=CONTEXT, help="in tokens, shared out among the slots")
    parser.add_argument("--endless", action="store_true", help="let answers go on beyond the context")
    options = vars(parser.parse_args())
    # Blocked before the server starts its threads, which inherit that; so sigwait gets them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = serve(options.pop("model"), options.pop("port"), **options)
    print(f"Listening on {server.listening_address}", flush=True)
    signal.sigwait(ends)


if __name__ == "__main__":
    main()
