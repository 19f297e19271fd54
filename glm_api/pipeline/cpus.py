"""Count the CPUs that this process may use: a model must not compute with more threads.

ggml's threads spin, so more of them than CPUs make a model many times slower. By itself chatglm_cpp takes one for each
CPU of the machine, which is a disaster in a container that may use 2 of 64.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CHECKOUT = Path(__file__).resolve().parents[2]


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may keep busy, by its affinity and cgroup quotas; at least 1.

    Quotas are rounded down, because a spinning thread uses a whole CPU: with 1.5 CPUs two threads would be throttled
    together. ``/proc`` and ``/sys`` are read below ``root``.
    """
    cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *(int(quota) for quota in _cgroup_quotas(root))]))


def child_environment() -> dict[str, str]:
    """Return the environment of a child: ours, in which it finds glm_api wherever the server was started."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


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
