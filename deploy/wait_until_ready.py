"""Wait until the server's /health is 200: for ``systemctl restart`` to return when the model is ready.

Asks where GLM_BIND says, in the environment or in GLM_ENV_FILE, as the server does. Ends with 0 when the server takes
requests, and with 1 after the seconds of the first argument or when the process MAINPID (systemd sets it) is gone.
"""

import os
import socket
import sys
import time
from http.client import HTTPConnection, HTTPException

from dotenv import dotenv_values


class UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path, instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ready(bind: str) -> bool:
    """Whether /health is 200 there."""
    path = bind.removeprefix("unix:")
    connection = UnixConnection(path, 5) if path != bind else HTTPConnection(bind, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def lives(pid: str) -> bool:
    """Whether the process is there; without an id nobody knows better."""
    return not pid or os.path.exists(f"/proc/{pid}")


def main() -> int:
    """Wait; the exit status."""
    held = dotenv_values(os.environ.get("GLM_ENV_FILE") or "/dev/null", interpolate=False)
    bind = os.environ.get("GLM_BIND", "").strip() or (held.get("GLM_BIND") or "").strip() or "127.0.0.1:8000"
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end and lives(os.environ.get("MAINPID", "")):
        if ready(bind):
            return 0
        time.sleep(0.2)
    print(f"The server at {bind} is not ready.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
