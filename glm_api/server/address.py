"""Check that the server can listen on its address, before gunicorn tries.

gunicorn reports a failure ten times in five seconds, and knows nothing of ``GLM_BIND``. gunicorn's master imports this
module, see `glm_api.server.worker`.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from pathlib import Path

# A server that is ending may keep its port for up to a second. Seconds.
PATIENCE = 2.0
_INTERVAL = 0.1
# Linux' limit of the path of a Unix socket, without the NUL at its end.
_LONGEST_PATH = 107

Address = str | tuple[str, int]


def fault(address: Address, patience: float = PATIENCE) -> str | None:
    """Return why the server cannot listen on ``address``, with what to do about it; None if it can.

    Waits for up to ``patience`` seconds while the port is in use.
    """
    if isinstance(address, str):
        reason = _fault_of_path(Path(address))
        return reason and f"The server cannot listen on GLM_BIND=unix:{address}: {reason}"
    deadline = time.monotonic() + patience
    while (reason := _fault_of_port(*address)) == _IN_USE and time.monotonic() < deadline:
        time.sleep(_INTERVAL)
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return reason and f"The server cannot listen on GLM_BIND={host}:{address[1]}: {reason}"


_IN_USE = "another program uses the port. End that program, or choose another port in GLM_BIND."


def _fault_of_port(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        return "there is no machine of that name. Choose an address of this machine, or 0.0.0.0 for all of them."
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                return _IN_USE
            case errno.EADDRNOTAVAIL:
                return "this machine does not have that address. Choose one that it has, or 0.0.0.0 for all of them."
            case errno.EACCES:
                return "this user may not use that port. Choose one from 1024 up."
        return f"{error.strerror}."
    return None


def _fault_of_path(path: Path) -> str | None:
    folder = path.parent
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return f"the path is too long. A socket's path may have up to {_LONGEST_PATH} bytes."
    if not folder.is_dir():
        return f"there is no folder {folder}. Make it, or let systemd make it (RuntimeDirectory)."
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return "there is a file of that name which is not a socket. Remove it, or choose another path."
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{error.strerror}."
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"this user may not make a socket in {folder}. Change the folder's owner, or choose another path."
    return None
