"""Make an unchanged chatglm_cpp compute with a given number of threads, by a preloaded library (``nprocs.c``)."""

from __future__ import annotations

from pathlib import Path

from glm_api.pipeline.cpus import child_environment

LIBRARY = Path(__file__).with_name("libnprocs.so")


def nprocs_for(threads: int) -> int:
    """Return what ``get_nprocs`` must return for chatglm_cpp to compute with ``threads`` threads.

    chatglm_cpp starts n threads for n up to 4, and n/2 above (``get_num_physical_cores`` in its chatglm.cpp). It never
    takes more than 16 threads to evaluate a single token.
    """
    return threads if threads <= 4 else 2 * threads


def original_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process in which chatglm_cpp computes with ``threads`` threads."""
    return child_environment() | {
        # By name, because LD_PRELOAD takes a space in a path for a separator; LD_LIBRARY_PATH does not.
        "LD_PRELOAD": LIBRARY.name,
        "LD_LIBRARY_PATH": str(LIBRARY.parent),
        "GLM_NPROCS": str(nprocs_for(threads)),
    }
