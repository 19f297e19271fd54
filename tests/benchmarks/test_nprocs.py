"""An unchanged chatglm_cpp computes with the number of threads that the benchmark wants."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import nprocs


@given(st.integers(1, 512))
def test_get_nprocs_decides_the_number_of_threads(threads: int) -> None:
    def get_num_physical_cores(n: int) -> int:
        return n if n <= 4 else n // 2

    assert get_num_physical_cores(nprocs.nprocs_for(threads)) == threads


@pytest.mark.skipif(not nprocs.LIBRARY.exists(), reason="`make bench` builds the library")
@pytest.mark.parametrize("threads", [1, 3, 48])
def test_a_process_sees_the_number_of_cpus_that_it_is_given(threads: int) -> None:
    code = "import ctypes; libc = ctypes.CDLL(None); print(libc.get_nprocs(), libc.get_nprocs_conf())"
    environment = nprocs.original_environment(threads)
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == f"{nprocs.nprocs_for(threads)} {nprocs.nprocs_for(threads)}\n"
