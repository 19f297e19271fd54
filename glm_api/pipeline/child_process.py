"""The web side of a child process: start it, send and receive frames, restart it when it dies or hangs.

chatglm_cpp holds the GIL while it computes, and a failed assertion in it ends the process. So it runs in children of
the web process, and whatever happens there costs the web process one closed socket.

Threads and sockets are the standard library's: gunicorn's gevent worker patches them, which makes them cooperative, and
the tests run the same code unpatched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Generic, Protocol, TypeVar

from glm_api.backend.base import Cause, ChildRole
from glm_api.pipeline.child_output import WithoutAnswers
from glm_api.pipeline.frames import (
    RECEIVE_BYTES,
    Decoder,
    Frame,
    FrameBuffer,
    FrameError,
    LoadFailed,
    LoadModel,
    Ready,
    pack,
)
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.stall import StallDetector

logger = logging.getLogger(__name__)

# What a child sends once it has loaded the model.
F = TypeVar("F", bound=Frame)
F_contra = TypeVar("F_contra", bound=Frame, contravariant=True)

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
# After a child has been ready for this long, the next restart is quick again. Seconds.
RECOVERED_AFTER = 60.0
WATCH_INTERVAL = 1.0
# A busy child that does nothing at so many looks of the watchdog in a row is not responsive, and then hung.
UNRESPONSIVE_LOOKS = 2
HUNG_LOOKS = 5
# Loading maps the file; it takes minutes only for a very large model on a cold disk. Seconds.
LOAD_TIMEOUT = 600.0
LOG_LINE_BYTES = 1000


@dataclass(frozen=True, slots=True)
class _End:
    """What is known of a child that has ended, from its frames.

    ``ready_since`` is in seconds of the monotonic clock, None for a child that was never ready. ``load_failure`` says
    why it could not load the model. ``misfit``: it sent a frame that does not fit.
    """

    ready_since: float | None
    load_failure: str | None
    misfit: bool


class LoadFailures:
    """Why the children cannot load the model at the moment. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[ChildRole, str] = {}

    def add(self, role: ChildRole, message: str) -> bool:
        """Keep ``message`` for the child; return whether neither child has failed with it just before."""
        with self._lock:
            new = message not in self._messages.values()
            self._messages[role] = message
        return new

    def clear(self, role: ChildRole) -> None:
        """The child has loaded the model."""
        with self._lock:
            self._messages.pop(role, None)


class Listener(Protocol[F_contra]):
    """Is told what the child does, by calls from the child's supervising thread, one at a time."""

    def on_ready(self, info: ModelInfo) -> None:
        """The child has loaded the model and takes requests."""

    def on_frame(self, frame: F_contra) -> None:
        """The child has sent a frame."""

    def on_down(self, cause: Cause, message: str) -> None:
        """The child is gone; unless ``stopped``, another one will be started."""


class ChildProcess(Generic[F]):
    """One supervised child. All methods may be called from any thread.

    ``decoder`` reads what a child of this role may send. A child that sends anything else is broken and is replaced.
    ``load_failures`` is shared with the other child, so that a fault of the file that both find is logged once.
    ``restarts`` counts the ends of the child that were followed by a new one, by cause. The child's temporary files are
    in a folder that only this user may enter, and that is removed when the child has ended.
    """

    def __init__(
        self,
        role: ChildRole,
        decoder: Decoder[Ready | LoadFailed | F],
        load_model: LoadModel,
        listener: Listener[F],
        environment: Mapping[str, str],
        load_failures: LoadFailures,
    ) -> None:
        self.role = role
        self.restarts: Counter[Cause] = Counter()
        self._load_failures = load_failures
        self._decoder = decoder
        self._load_model = load_model
        self._listener = listener
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        # Seconds that the watchdog has watched, and the number of them at which the child is hung.
        self._watched = 0.0
        # How often something came from a child.
        self._received = 0
        self._deadline: float | None = None
        self._killed_for: Cause | None = None
        self._loaded = False
        self.responsive = True
        """False while the child is busy and does nothing; it is killed if it stays so."""
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def pid(self) -> int | None:
        """The process id of the child that runs now, None if none does."""
        process = self._process
        return process.pid if process is not None else None

    def start(self) -> None:
        """Start the child and its supervision; wait for neither."""
        for target, name in ((self._supervise, "supervisor"), (self._watch, "watchdog")):
            thread = threading.Thread(target=target, name=f"{self.role}-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Kill the child and start no other one; it has nothing to save. Idempotent."""
        self._stopping.set()
        self.kill("stopped")

    def join(self, timeout: float) -> None:
        """Wait for the supervision to end after `stop`, for at most ``timeout`` seconds a thread."""
        for thread in self._threads:
            thread.join(timeout)

    def send(self, frame: Frame) -> bool:
        """Send ``frame``. Return False when there is no child to take it; `Listener.on_down` tells of its end."""
        return self.send_packed(pack(frame))

    def send_packed(self, data: bytes) -> bool:
        """Send a frame that is packed already, as `send` does."""
        with self._send_lock:
            if self._socket is None:
                return False
            try:
                self._socket.sendall(data)
            except OSError:
                return False
            return True

    def expect_within(self, seconds: float | None) -> None:
        """Kill the child as hung unless it sends something within ``seconds``. None: it is idle and may be silent.

        This finds a child that computes for ever. A busy child that does nothing is found sooner.
        """
        self._deadline = None if seconds is None else self._watched + WATCH_INTERVAL + seconds

    def kill(self, cause: Cause) -> None:
        """Kill the child that runs now, if any; `Listener.on_down` is called with ``cause``.

        The first cause counts: a child that was killed may break its connection, for which it would be killed too.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return
            self._killed_for = self._killed_for or cause
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _supervise(self) -> None:
        backoff = FIRST_BACKOFF
        while not self._stopping.is_set():
            try:
                process, connection = self._spawn()
            except OSError as error:
                # Too many processes or open files, or a Python that may not be run. It may pass, so try again. The log
                # shows the path, which /health must not.
                logger.error("The %s process cannot be started: %s", self.role, error)
                self.restarts["load_failed"] += 1
                self._listener.on_down(
                    "load_failed", f"The {self.role} process cannot be started ({error.strerror or 'see the log'})."
                )
                self._stopping.wait(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF)
                continue
            end = self._receive_all(process, connection)
            cause, message = self._reap(process, end)
            if cause != "stopped":
                self.restarts[cause] += 1
                # Most failures to load repeat at each try.
                if cause != "load_failed" or self._load_failures.add(self.role, message):
                    logger.error("%s", message)
            self._listener.on_down(cause, message)
            if end.ready_since is not None and time.monotonic() - end.ready_since > RECOVERED_AFTER:
                backoff = FIRST_BACKOFF
            if self._stopping.wait(backoff):
                return
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        self._folder = tempfile.TemporaryDirectory(prefix="glm-api-", ignore_cleanup_errors=True)
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "glm_api.pipeline.worker", self.role, str(theirs.fileno()), str(os.getpid())]
        try:
            process = subprocess.Popen(
                command,
                env=self._environment | {"TMPDIR": self._folder.name},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except BaseException:
            ours.close()
            self._folder.cleanup()
            raise
        finally:
            theirs.close()
        assert process.stdout is not None
        threading.Thread(target=self._log_output, args=(process.stdout,), daemon=True).start()
        with self._lock:
            self._process = process
            self._killed_for = None
        self._loaded = False
        self.expect_within(LOAD_TIMEOUT)
        with self._send_lock:
            self._socket = ours
        if self._stopping.is_set():
            self.kill("stopped")
        self.send(self._load_model)
        return process, ours

    def _log_output(self, output: IO[bytes]) -> None:
        """Write what the child prints into the log, such as ggml's assertions or the traceback of a fatal error.

        Texts of answers are left out.
        """
        with output:
            begins = True
            told = WithoutAnswers()
            for piece in iter(lambda: output.readline(LOG_LINE_BYTES), b""):
                if begins and (text := told.feed(piece.decode(errors="replace").strip())):
                    logger.warning("%s process: %s", self.role, text)
                begins = piece.endswith(b"\n")

    def _receive_all(self, process: subprocess.Popen[bytes], connection: socket.socket) -> _End:
        """Pass the child's frames on until it ends."""
        ready_since: float | None = None
        load_failure: str | None = None
        misfit = False
        buffer = FrameBuffer(self._decoder)
        while True:
            try:
                data = connection.recv(RECEIVE_BYTES)
                if not data:
                    break
                self._received += 1
                for frame in buffer.feed(data):
                    if isinstance(frame, Ready):
                        ready_since = time.monotonic()
                        self.expect_within(None)
                        self._loaded = True
                        self._load_failures.clear(self.role)
                        self._listener.on_ready(frame.info)
                    elif isinstance(frame, LoadFailed):
                        load_failure = frame.message
                    else:
                        self._listener.on_frame(frame)
            except (OSError, FrameError) as error:
                misfit = isinstance(error, FrameError)
                self.kill("died")
                break
        self.expect_within(None)
        with self._send_lock:
            self._socket = None
        connection.close()
        if ready_since is None and load_failure is None and not misfit and process.wait() != 0:
            what = f"while it opened {os.path.basename(self._load_model.model)}"
            if self._killed_for == "hung":
                load_failure = f"The {self.role} process stopped responding {what} and was killed."
            else:
                load_failure = (
                    f"The {self.role} process ended {what} ({_exit_description(process.returncode)}). "
                    "The file may be damaged, or memory too small for it."
                )
        return _End(ready_since, load_failure, misfit)

    def _reap(self, process: subprocess.Popen[bytes], end: _End) -> tuple[Cause, str]:
        process.wait()
        self._folder.cleanup()
        with self._lock:
            cause = self._killed_for
            self._process = None
        if self._stopping.is_set():
            return "stopped", f"The {self.role} process was stopped."
        if end.load_failure is not None:
            return "load_failed", end.load_failure
        if end.misfit:
            what = f"The {self.role} process sent a frame that does not fit and was killed"
            return ("load_failed" if end.ready_since is None else "died"), f"{what}; a new one is started."
        if cause == "hung":
            return cause, f"The {self.role} process stopped responding and was killed; a new one is started."
        described = _exit_description(process.returncode)
        return "died", f"The {self.role} process died ({described}); a new one is started."

    def _watch(self) -> None:
        detector: StallDetector | None = None
        looked_at = time.monotonic()
        while not self._stopping.wait(WATCH_INTERVAL):
            now = time.monotonic()
            # A server that was itself stopped (Ctrl-Z) did not watch meanwhile.
            self._watched += min(now - looked_at, 2 * WATCH_INTERVAL)
            looked_at = now
            pid = self.pid
            if detector is None or detector.pid != pid:
                detector = StallDetector(pid)
            deadline = self._deadline
            # A child that loads the model may wait for a file system, which looks like doing nothing.
            busy = deadline is not None and self._loaded
            idle_looks = detector.look(busy=busy, received=self._received)
            self.responsive = idle_looks < UNRESPONSIVE_LOOKS
            if idle_looks >= HUNG_LOOKS or (deadline is not None and self._watched > deadline):
                self._deadline = None
                self.kill("hung")


def _exit_description(returncode: int) -> str:
    if returncode < 0:
        try:
            return f"signal {signal.Signals(-returncode).name}"
        except ValueError:
            return f"signal {-returncode}"
    return f"exit status {returncode}"
