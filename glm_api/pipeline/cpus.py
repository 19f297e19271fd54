"""The number of CPUs that this process may use, and how the children get it as their number of threads.

chatglm_cpp starts a thread for each CPU of the machine, and its threads spin. In a container that may use two CPUs of
a machine with 64 that is a disaster, so the number of threads is decided here, by affinity and cgroup quota, and told
to the children through a small preloaded library (``worker/nprocs.c``).
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
    """The CPUs that this process may keep busy, at least 1: its affinity, and the cgroup quota rounded down.

    Rounded down because a spinning thread uses a whole CPU: with 1.5 CPUs two threads are throttled together.
    ``root`` is where ``/proc`` and ``/sys`` are looked for.
    """
    cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *(int(quota) for quota in _cgroup_quotas(root))]))


def nprocs_for(threads: int) -> int:
    """What ``get_nprocs`` must answer for chatglm_cpp to compute with ``threads`` threads.

    It takes the answer n as it is up to 4, and n/2 above (``get_num_physical_cores`` in its chatglm.cpp). When it
    evaluates a single token it never takes more than 16 threads.
    """
    return threads if threads <= 4 else 2 * threads


def child_environment(threads: int, library: Path = NPROCS_LIBRARY) -> dict[str, str]:
    """The whole environment of a child that computes with ``threads`` threads: ours, with what it needs on top.

    Without the library (`make setup` builds it) the child uses as many threads as chatglm_cpp likes; a warning says so.
    """
    environment = dict(os.environ)
    # So that the child finds glm_api whatever directory the server was started in.
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
    """The CPUs that each cgroup around this process allows, innermost first; cgroups without a quota are left out."""
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
    """The directories of the cgroup ``path`` and of those around it.

    In a container the path may be the host's, which does not exist below the mount; what is left then is the mount
    itself, which is the container's own cgroup.
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
