"""Decide the number of compute threads and pass it to the children.

chatglm_cpp starts a thread for each CPU of the machine, and its threads spin. In a container that may use 2 of 64 CPUs
that is a disaster. So the number of threads is decided here, by affinity and cgroup quota, and the children get it from
a small preloaded library (``worker/nprocs.c``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

logger = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
NPROCS_LIBRARY = Path(__file__).resolve().parent / "worker" / "libnprocs.so"


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may keep busy, by its affinity and cgroup quotas; at least 1.

    Quotas are rounded down, because a spinning thread uses a whole CPU: with 1.5 CPUs two threads would be throttled
    together. ``/proc`` and ``/sys`` are read below ``root``.
    """
    cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *(int(quota) for quota in _cgroup_quotas(root))]))


def nprocs_for(threads: int) -> int:
    """Return what ``get_nprocs`` must return for chatglm_cpp to compute with ``threads`` threads.

    chatglm_cpp starts n threads for n up to 4, and n/2 above (``get_num_physical_cores`` in its chatglm.cpp). It never
    takes more than 16 threads to evaluate a single token.
    """
    return threads if threads <= 4 else 2 * threads


def child_environment(threads: int, library: Path = NPROCS_LIBRARY) -> dict[str, str]:
    """Return the environment of a child that computes with ``threads`` threads: ours, and some variables more.

    Without the library (`make setup` builds it) chatglm_cpp decides the number of threads; a warning says so.
    """
    environment = dict(os.environ)
    # The child must find glm_api whatever directory the server was started in.
    environment["PYTHONPATH"] = _prepended(str(CHECKOUT), environment.get("PYTHONPATH"))
    if library.exists():
        # By name, because LD_PRELOAD takes a space in a path for a separator; LD_LIBRARY_PATH does not.
        environment["LD_PRELOAD"] = _prepended(library.name, environment.get("LD_PRELOAD"))
        environment["LD_LIBRARY_PATH"] = _prepended(str(library.parent), environment.get("LD_LIBRARY_PATH"))
        environment["GLM_NPROCS"] = str(nprocs_for(threads))
    else:
        logger.warning("%s is missing, so the number of threads cannot be set; `make setup` builds it.", library.name)
    return environment


def _prepended(entry: str, entries: str | None) -> str:
    return f"{entry}:{entries}" if entries else entry


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """Yield the number of CPUs that each cgroup around this process allows, innermost first, for those with a quota."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for group in _groups(mounts, path):
                yield from _quota_v2(group)
        elif "cpu" in controllers.split(","):
            for group in _groups(mounts / "cpu", path):
                yield from _quota_v1(group)


def _groups(mount: Path, path: str) -> Iterator[Path]:
    """Yield the directories of the cgroup ``path`` and of those around it.

    In a container the path may be the host's, which does not exist below the mount. Then only the mount itself is left,
    which is the container's own cgroup.
    """
    relative = PurePosixPath(path.lstrip("/"))
    for group in (relative, *relative.parents):
        if (mount / group).is_dir():
            yield mount / group


def _quota_v2(group: Path) -> Iterator[float]:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return
    if quota != "max":
        yield int(quota) / int(period)


def _quota_v1(group: Path) -> Iterator[float]:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return
    if quota > 0:
        yield quota / period
