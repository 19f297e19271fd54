"""The library in front of chatglm_cpp (``bridge.c``): logits, threads, Python's lock, and an end to a computation.

The extension finds the library's functions only if the library was opened first, so everything else takes
``chatglm_cpp`` from here. There is one bridge a process, for one computation at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from glm_api.pipeline.worker.service import LoadError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]
    """One float32 for each id of the vocabulary. Writable."""

LIBRARY = Path(__file__).with_name("libbridge.so")
# Any penalty but 1 makes chatglm_cpp call the hook; the hook decides what is done.
CALL_HOOK = 2.0

_ADDRESSES = (
    "ggml_backend_graph_compute",
    "ggml_backend_cpu_set_n_threads",
    "ggml_backend_buffer_get_size",
    "ggml_gallocr_reserve_n",
    "ggml_graph_compute",
)
_HOOK = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_float), ctypes.c_size_t)


class BridgeError(LoadError):
    """The library cannot do its work with the installed chatglm_cpp. The message is one line for the operator."""


class Evaluating(Protocol):
    """The part of ``chatglm_cpp.Pipeline.model`` that `check` needs."""

    def generate_next_token(
        self, input_ids: list[int], image: object | None, gen_config: object, n_past: int, n_ctx: int
    ) -> int:
        """Evaluate ``input_ids`` and return the id that follows."""


def _open() -> ctypes.CDLL:
    if "chatglm_cpp._C" in sys.modules:
        raise BridgeError("chatglm_cpp was imported before the library of the bridge was opened.")
    try:
        # RTLD_GLOBAL: the extension's calls find the functions of this library before its own.
        library = ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        raise BridgeError(f"{LIBRARY.name} is missing or cannot be opened. `make setup` builds it.") from None
    library.bridge_connect.argtypes = [ctypes.c_void_p] * 7
    library.bridge_set_threads.argtypes = [ctypes.c_int, ctypes.c_double, ctypes.c_double]
    library.bridge_late.restype = ctypes.c_bool
    library.bridge_abort.argtypes = library.bridge_only_allocate.argtypes = [ctypes.c_bool]
    for name in ("nodes", "computations", "thread_settings", "reservations"):
        getattr(library, f"bridge_{name}").restype = ctypes.c_uint
    return library


def _connect(library: ctypes.CDLL) -> None:
    """Give the library the addresses of the functions that it replaces, and of those that free Python's lock."""
    dlsym = ctypes.CDLL(None).dlsym
    dlsym.restype, dlsym.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
    extension = ctypes.CDLL(_C.__file__)
    real = [dlsym(extension._handle, name.encode()) for name in _ADDRESSES]
    if None in real:
        raise BridgeError("This build of chatglm-cpp hides its functions. Install it with `make setup`.")
    lock = (ctypes.pythonapi.PyEval_SaveThread, ctypes.pythonapi.PyEval_RestoreThread)
    library.bridge_connect(*real, *(ctypes.cast(function, ctypes.c_void_p) for function in lock))


# A failure is raised by the first function that is called, so that this module can always be imported.
_library: ctypes.CDLL | BridgeError
try:
    _library = _open()
except BridgeError as error:
    _library = error
import chatglm_cpp as chatglm_cpp  # noqa: E402 - not before the library
from chatglm_cpp import _C as _C  # noqa: E402

try:
    if not isinstance(_library, BridgeError):
        _connect(_library)
except BridgeError as error:
    _library = error


# The hook in force, kept from being collected.
_hook = _HOOK()


def _bridge() -> ctypes.CDLL:
    if isinstance(_library, BridgeError):
        raise _library
    return _library


def set_threads(count: int, expected: float = 0.0, most: float = 0.0) -> None:
    """Compute with ``count`` threads from the next evaluation on. Raises `BridgeError` if there is no bridge.

    The next evaluation should take ``expected`` seconds (0: unknown). If it takes more than ``most`` (0: never), it
    raises RuntimeError, as with `abort`.
    """
    _bridge().bridge_set_threads(count, expected, most)


def gave_up() -> bool:
    """Return whether the last evaluation has ended because it took longer than `set_threads` allowed."""
    late: bool = _bridge().bridge_late()
    return late


def abort(wanted: bool = True) -> None:
    """End the computation that runs within some hundredths of a second, and each further one, until called with False.

    From any thread. The evaluation raises RuntimeError; its cache may hold anything behind the ids that were there
    before.
    """
    _bridge().bridge_abort(wanted)


def allocate(model: Evaluating, places: int) -> None:
    """Let ``model`` lay out the memory of its graph for a token in the last of ``places`` of the cache.

    The graphs of an answer grow with each token. ggml lays out its memory anew for each graph that is larger than the
    one before, which takes a tiny model a tenth of a token's time. Nothing is computed, and the cache is not touched.
    """
    config = _C.GenerationConfig(do_sample=False)
    _bridge().bridge_only_allocate(True)
    try:
        # chatglm_cpp takes it for an evaluation that has failed. Without memory the next evaluation fails too.
        with contextlib.suppress(RuntimeError):
            model.generate_next_token([0] * places, None, config, places - 1, places)
    finally:
        _bridge().bridge_only_allocate(False)


def nodes() -> int:
    """Return the number of computed nodes, modulo 2**32; always 0 where `abort` does nothing. From any thread."""
    count: int = _bridge().bridge_nodes()
    return count


def reservations() -> int:
    """Return how often ggml has laid out memory, modulo 2**32."""
    count: int = _bridge().bridge_reservations()
    return count


@contextlib.contextmanager
def logits_hook(function: Callable[[Logits], None]) -> Iterator[Callable[[], None]]:
    """Call ``function`` with the logits of each evaluation whose repetition penalty is not 1, before an id is chosen.

    It runs in the thread that evaluates. Yields a function to call after each evaluation: it raises what ``function``
    raised, which C cannot pass on.
    """
    import numpy as np

    failures: list[BaseException] = []

    def call(first: ctypes._Pointer[ctypes.c_float], count: int) -> None:
        try:
            function(np.ctypeslib.as_array(first, (count,)))
        except BaseException as error:
            failures.append(error)

    def raise_failure() -> None:
        if failures:
            raise failures.pop()

    global _hook
    before, _hook = _hook, _HOOK(call)
    _bridge().bridge_set_hook(_hook)
    try:
        yield raise_failure
    finally:
        _hook = before
        _bridge().bridge_set_hook(before)


def check(model: Evaluating) -> bool:
    """Evaluate one token to see that chatglm_cpp calls the functions of the bridge; return whether `abort` works.

    Raises `BridgeError` where logits or threads are out of reach: an extension that was linked or inlined otherwise.
    """
    seen: list[int] = []
    computations, settings = _bridge().bridge_computations(), _bridge().bridge_thread_settings()
    with logits_hook(lambda logits: seen.append(len(logits))) as raise_failure:
        config = _C.GenerationConfig(do_sample=False, repetition_penalty=CALL_HOOK)
        model.generate_next_token([0], None, config, 0, 1)
        raise_failure()
    if not seen or not reservations() or _bridge().bridge_computations() == computations:
        raise BridgeError(
            "This build of chatglm-cpp does not call the functions that the server replaces, so it has no logits. "
            "Build it with -fsemantic-interposition and without link-time optimization, as `make setup` does."
        )
    return bool(_bridge().bridge_thread_settings() != settings and nodes())
