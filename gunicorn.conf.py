"""gunicorn's configuration: one gevent worker, which keeps the model in child processes of its own.

A name that is a setting of gunicorn takes effect when it is assigned here, so all other names begin with an underscore.
(``import config`` would set gunicorn's setting ``config`` to a module, and the boot would fail.)
"""

import os as _os
import signal as _signal
import sys as _sys
from pathlib import Path as _Path
from typing import Any as _Any

_CHECKOUT = str(_Path(__file__).resolve().parent)
# Make it work from any directory, with -c /path/to/gunicorn.conf.py: the imports here and wsgi.py are in the checkout.
_sys.path.insert(0, _CHECKOUT)

from config import SettingsError as _SettingsError  # noqa: E402
from glm_api.lifecycle import settings_loader as _settings_loader  # noqa: E402
from glm_api.lifecycle import worker_started as _worker_started  # noqa: E402
from glm_api.lifecycle import worker_stopped as _worker_stopped  # noqa: E402
from glm_api.server.address import fault as _fault_of  # noqa: E402
from hub import fetch as _fetch  # noqa: E402
from hub.repack import repack as _repack  # noqa: E402

try:
    # A model is downloaded or repacked here, once: the worker finds it after the fork.
    _settings = _settings_loader.load(_os.environ, _fetch, _repack)
except _SettingsError as _error:
    raise SystemExit(str(_error)) from None

bind = _settings.bind
# Only its user and group may open a Unix socket: whoever opens it is trusted as the proxy.
umask = 0o117
# gevent's worker, with a time limit on each wait for a client.
worker_class = "glm_api.server.worker.Worker"
# There is one pipeline with one queue. To serve more requests, add machines, not workers.
workers = 1
# Every request that waits or streams holds a connection; some more are kept for /health.
worker_connections = _settings.queue_size + 1100
# The app is loaded after the fork, where gevent has patched the standard library.
preload_app = False
# Replacing the worker would end its pipeline process, with the running answer and all cached prompts.
max_requests = 0
# The worker only passes tokens on and is never busy for long, unless ggml's threads starve it.
timeout = 120
# glm_api.lifecycle needs the last two seconds to end running requests with an error, before the worker is killed.
graceful_timeout = int(_settings.graceful_timeout) + 2
keepalive = 5
# Nothing uses the control socket, and an attacker might.
control_socket_disable = True
# glm_api.middleware.access_log writes one line a request, at the end of its stream; gunicorn would write too early, and
# knows too little.
accesslog = None


_TIME = "%Y-%m-%dT%H:%M:%S%z"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "()": "glm_api.log.lines.TextFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s: %(message)s",
            "datefmt": _TIME,
        },
        "json": {
            "()": "glm_api.log.lines.JsonFormatter",
            "fmt": ["levelname", "name", "message"],
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": "time",
        },
    },
    "handlers": {"stderr": {"class": "glm_api.log.lines.StderrHandler", "formatter": _settings.log_format}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "glm_api": {"level": _settings.log_level.upper()},
        "gunicorn.error": {"level": _settings.log_level.upper(), "handlers": [], "propagate": True},
    },
}


def on_starting(server: _Any) -> None:
    """End the start with one line if the server cannot listen on its address."""
    # With USR2 and with systemd's socket activation the sockets are open already.
    if "GUNICORN_FD" in _os.environ or "LISTEN_FDS" in _os.environ or server.cfg.reuse_port:
        return
    for address in server.cfg.address:
        fault = _fault_of(address)
        if fault is not None:
            server.log.error("%s", fault)
            raise SystemExit(1)


def post_fork(server: _Any, worker: _Any) -> None:
    """Make the worker obey signals that end it from its first moment.

    It inherits the master's handlers, which only put a signal into the master's queue, and keeps them until it sets its
    own. The master sends a signal only once, and kills the worker when the grace period is over.
    """
    endings = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT)
    for number in endings:
        _signal.signal(number, _signal.SIG_DFL)
    # This process' copy of the queue holds the signals that came before this line. A signal that came before the fork
    # was meant for the master, but it ends the worker too.
    while not server.SIG_QUEUE.empty():
        number = server.SIG_QUEUE.get_nowait()
        if number in endings:
            _signal.raise_signal(number)


def post_worker_init(worker: _Any) -> None:
    """Start the backend, now that the worker is patched and its signal handlers are set."""
    # Ctrl-C reaches the worker twice: from the terminal and from the master. One is enough, two end in a traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _worker_started(worker)


def worker_exit(server: _Any, worker: _Any) -> None:
    """End the backend with the worker."""
    _worker_stopped(worker)
