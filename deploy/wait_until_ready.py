"""Wait until the server's /health is 200, so that ``systemctl restart`` returns when the model is ready.

The address is GLM_BIND, from the environment or from GLM_ENV_FILE, as for the server. The exit status is 0 when the
server takes requests. It is 1 after as many seconds as the first argument says, or when the process MAINPID (which
systemd sets) is gone.
"""

import os
import socket
import sys
import time
from http.client import HTTPConnection, HTTPException

from dotenv import dotenv_values


class UnixConnection(HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ready(bind: str) -> bool:
    """Return whether /health is 200 at the address ``bind``."""
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
    """Return whether the process exists. True without an id, when that cannot be known."""
    return not pid or os.path.exists(f"/proc/{pid}")


def main() -> int:
    """Wait, and return the exit status."""
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
