"""llama.cpp's server alone: xllamacpp in a process of its own, with nothing around it. It stops when it is told to.

    python -m benchmarks.llama_server MODEL.gguf PORT CONTEXT SLOTS THREADS

It computes as the child of this server does: the same batches, slots and threads.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import xllamacpp

from glm_api.pipeline.worker.gguf_file import inspect_gguf
from glm_api.pipeline.worker.llama_cpp.batch import cpu_batch_tokens


def main(model: str, port: int, context: int, slots: int, threads: int) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = context * slots
    params.n_parallel = slots
    params.n_batch = params.n_ubatch = min(cpu_batch_tokens(inspect_gguf(Path(model)), threads), context)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.n_threads_http = slots + 4
    params.cache_ram_mib = 0
    params.warmup = params.fit_params = params.ui = params.endpoint_slots = False
    params.sse_ping_interval = -1
    params.verbosity = 1
    server = xllamacpp.Server(params)
    signal.sigwait({signal.SIGTERM})
    del server


if __name__ == "__main__":
    # Blocked before llama.cpp starts its threads, so that no thread of it takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(sys.argv[1], *map(int, sys.argv[2:6]))
