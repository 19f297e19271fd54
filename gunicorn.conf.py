"""gunicorn's configuration: one gevent worker, which keeps the model in child processes of its own.

Names that are settings of gunicorn take effect by being assigned here, so everything that is not meant as one begins
with an underscore. (``import config`` would set gunicorn's ``config`` to a module, and end the boot.)
"""

import os as _os
import signal as _signal
import sys as _sys
from pathlib import Path as _Path
from typing import Any as _Any

_CHECKOUT = str(_Path(__file__).resolve().parent)
# So that it works from any directory, with -c /path/to/gunicorn.conf.py: this file needs config.py, gunicorn wsgi.py.
_sys.path.insert(0, _CHECKOUT)

from config import SettingsError as _SettingsError  # noqa: E402
from glm_api.lifecycle import settings_loader as _settings_loader  # noqa: E402
from glm_api.lifecycle import worker_started as _worker_started  # noqa: E402
from glm_api.lifecycle import worker_stopped as _worker_stopped  # noqa: E402
from hub import fetch as _fetch  # noqa: E402

try:
    # A model of the Hub is downloaded here, once: the worker finds it after the fork.
    _settings = _settings_loader.load(_os.environ, _fetch)
except _SettingsError as _error:
    raise SystemExit(str(_error)) from None

bind = _settings.bind
# A Unix socket is for its user and group alone: whoever may open it is taken for the proxy.
umask = 0o117
# gevent's, with bounds on what a client may take its time with.
worker_class = "glm_api.server.worker.Worker"
# One pipeline, one queue in front of it. More machines, not more workers, serve more requests.
workers = 1
# Every request that waits or streams holds a connection; some more are kept for /health.
worker_connections = _settings.queue_size + 1100
# The app is loaded after the fork, where gevent has patched the standard library.
preload_app = False
# A worker that is replaced takes its pipeline process, with the running answer and all cached prompts, along.
max_requests = 0
# The worker only passes tokens on and is never busy for long, unless ggml's threads starve it.
timeout = 120
# glm_api.lifecycle takes the last two seconds to end what still runs with a proper error, before the master kills.
graceful_timeout = int(_settings.graceful_timeout) + 2
keepalive = 5
# Nothing needs it, and it would be one more way in.
control_socket_disable = True
# glm_api.middleware.access_log writes one line a request, when its stream is over; gunicorn's would come too early and
# know too little.
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


def post_fork(server: _Any, worker: _Any) -> None:
    """Let signals that mean the end take effect from the first moment of a worker.

    It inherits the master's handlers, which only put a signal into the master's queue, and keeps them until it has set
    its own. The master tells a worker only once to end, and kills it when the grace is over.
    """
    endings = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT)
    for number in endings:
        _signal.signal(number, _signal.SIG_DFL)
    # This process' copy of the queue holds what came before this line. Whatever was meant for the master before the
    # fork ends its workers too.
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
