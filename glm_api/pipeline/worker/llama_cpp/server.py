"""Start llama.cpp's server in this process. It listens on a Unix socket in a folder that only this user may enter."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_api.pipeline.worker.llama_cpp.client import LlamaClient
from glm_api.pipeline.worker.service import LoadError

# What llama.cpp prints: 1 are errors, 2 also warnings.
_ERRORS = 1
# Tokens that a GPU computes in one go; llama.cpp's own number.
_GPU_BATCH_TOKENS = 512
# How long what llama.cpp prints of a failure is waited for, and how long it prints nothing when that is all. Seconds.
_PRINTING_SECONDS = 5.0
_QUIET_SECONDS = 0.2
# "0.00.063.594 E llama_model_load: error loading model: ..."
_PREFIX = re.compile(r"^[\d.]+ E +(?:srv +)?\w+: (?:error: )?")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How llama.cpp runs. ``context`` is the length of each slot's context, ``cpu_batch_tokens`` that of what a CPU
    computes in one go, both in tokens.

    ``projector`` is the file of a projector for images; ``gpu_layers`` the number of layers that a GPU computes, None
    for as many as fit. ``computes`` is False for the tokenizer process, which needs no cache and no memory for weights.
    """

    model: Path
    context: int
    slots: int
    threads: int
    cpu_batch_tokens: int
    projector: str | None = None
    gpu_layers: int | None = None
    computes: bool = True


class LlamaServer:
    """A server, which runs for as long as it is referred to. ``client`` asks it."""

    def __init__(self, settings: ServerSettings) -> None:
        """Load the model. Raises `LoadError`."""
        xllamacpp = _import()
        # A folder that only this user may enter. `ChildProcess` removes it with the process's other temporary files.
        socket = str(Path(tempfile.mkdtemp()) / "llama.sock")
        params = xllamacpp.CommonParams()
        params.model.path = str(settings.model)
        if settings.projector is not None:
            params.mmproj.path = settings.projector
        params.hostnames = [socket]
        params.n_ctx = settings.context * settings.slots
        params.n_parallel = settings.slots
        gpu = settings.computes and settings.gpu_layers != 0 and has_gpu()
        batch_tokens = _GPU_BATCH_TOKENS if gpu else settings.cpu_batch_tokens
        params.n_batch = params.n_ubatch = min(batch_tokens, settings.context)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
        params.n_gpu_layers = -1 if settings.gpu_layers is None else settings.gpu_layers
        # An embedding is the state behind the last token of a prompt. Answers are as before.
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
        # One for each answer, and some for questions.
        params.n_threads_http = settings.slots + 4
        # It would keep up to 8 GiB of other conversations in memory.
        params.cache_ram_mib = 0
        params.warmup = False
        # It would open the model twice, to see what fits onto a GPU.
        params.fit_params = gpu
        params.ui = params.endpoint_slots = False
        params.sse_ping_interval = -1
        params.verbosity = _ERRORS
        if not settings.computes:
            # Not a second copy of the weights in another order, and none on a GPU.
            params.no_extra_bufts = True
            params.n_gpu_layers = 0
        self.client = LlamaClient(socket)
        with _captured_output() as output:
            try:
                self._server = xllamacpp.Server(params)
            except RuntimeError:
                reason = _reason(_complete(output), settings)
                raise LoadError(f"llama.cpp cannot open {settings.model.name}: {reason}") from None
            finally:
                _ignore_signals()


def has_gpu() -> bool:
    """Return whether llama.cpp finds a GPU here that it is built for. Raises `LoadError`."""
    xllamacpp = _import()
    gpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU
    return any(device["type"] == gpu for device in xllamacpp.get_device_info())


def _import() -> Any:
    # A failed assertion would start a debugger for its report.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    try:
        import xllamacpp
    except ImportError as error:
        raise LoadError(
            f"llama.cpp is not installed here, or cannot be loaded ({error}): pip install -r requirements-llama.txt"
        ) from None
    return xllamacpp


@contextlib.contextmanager
def _captured_output() -> Iterator[Path]:
    """In the block, what the process prints goes into the file that is yielded: why a model does not load."""
    with tempfile.NamedTemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield Path(file.name)
        finally:
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _complete(output: Path) -> str:
    """Return what llama.cpp has printed. A thread of its own prints, and may do so after the failure."""
    deadline = time.monotonic() + _PRINTING_SECONDS
    text = ""
    while time.monotonic() < deadline:
        before, text = text, output.read_text(errors="replace")
        if text and text == before:
            break
        time.sleep(_QUIET_SECONDS)
    return text


def _reason(output: str, settings: ServerSettings) -> str:
    """Return what llama.cpp says of its failure, in one line, without the folders of the files."""
    for path in filter(None, (str(settings.model), settings.projector)):
        output = output.replace(path, Path(path).name)
    lines = [line for line in map(str.strip, output.splitlines()) if line]
    errors = [_PREFIX.sub("", line) for line in lines if _PREFIX.match(line)]
    reasons = [reason for line in errors if (reason := line.partition("error loading model: ")[2])]
    # Of several, that one only says that the file was not loaded.
    telling = [reason for reason in reasons if "failed to load model from" not in reason]
    return (telling[-1:] or errors[:1] or lines[:1] or ["it gives no reason"])[0]


def _ignore_signals() -> None:
    """Undo that llama.cpp handles signals: the web process decides what Ctrl-C means, see `worker.confine`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
