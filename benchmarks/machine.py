"""The machine of a measurement: enough to judge the figures, and nothing that identifies the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("chatglm-cpp", "xllamacpp", "flask", "gevent", "gunicorn", "fastapi", "uvicorn", "sse-starlette")


def describe(threads: int) -> dict[str, Any]:
    """Return the machine and the versions. Memory is in GiB."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "glm_api")),
        "date": time.strftime("%Y-%m-%d"),
    }


def other_work() -> float:
    """Return the share of all CPUs, in percent, that is in use while nothing is measured. Takes a second."""
    return psutil.cpu_percent(interval=1.0)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return run.stdout.strip()
