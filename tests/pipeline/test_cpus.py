"""There are as many threads as CPUs that the process may use, and chatglm_cpp obeys."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.cpus import CHECKOUT, child_environment, nprocs_for, usable_cpus

AFFINITY = len(os.sched_getaffinity(0))


@pytest.fixture
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_affinity_counts_without_cgroups(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == AFFINITY


def test_the_affinity_of_a_real_process_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from glm_api.pipeline.cpus import usable_cpus; print(usable_cpus())"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"


@pytest.mark.usefixtures("many_cpus")
@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1)]
)
def test_the_quota_of_cgroup_v2_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/system.slice/glm.service\n")
    write(tmp_path / "sys/fs/cgroup/system.slice/glm.service/cpu.max", quota + "\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.usefixtures("many_cpus")
def test_the_smallest_quota_of_all_enclosing_cgroups_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", "800000 100000\n")
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", "300000 100000\n")
    assert usable_cpus(tmp_path) == 3


@pytest.mark.usefixtures("many_cpus")
@pytest.mark.parametrize(("quota", "cpus"), [("-1", 64), ("400000", 4)])
def test_the_quota_of_cgroup_v1_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path / "proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n")
    write(tmp_path / "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", quota + "\n")
    write(tmp_path / "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.usefixtures("many_cpus")
def test_the_quota_counts_in_a_container_that_has_the_hosts_path(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "3:cpu,cpuacct:/docker/abc\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert usable_cpus(tmp_path) == 2


@given(st.integers(1, 512))
def test_get_nprocs_decides_the_number_of_threads(threads: int) -> None:
    def get_num_physical_cores(n: int) -> int:
        return n if n <= 4 else n // 2

    assert get_num_physical_cores(nprocs_for(threads)) == threads


def test_a_missing_library_is_not_preloaded_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLM_NPROCS", raising=False)
    with caplog.at_level(logging.WARNING):
        environment = child_environment(3, tmp_path / "libnprocs.so")
    assert "libnprocs.so is missing" in caplog.text
    assert "GLM_NPROCS" not in environment


def test_preloads_of_the_operator_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libnprocs.so"
    library.touch()
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    monkeypatch.setenv("PYTHONPATH", "/opt/py")
    environment = child_environment(3, library)
    assert environment["LD_PRELOAD"] == "libnprocs.so:libjemalloc.so.2"
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}:/opt/lib"
    assert environment["PYTHONPATH"] == f"{CHECKOUT}:/opt/py"


COMPUTE = """
import sys
import chatglm_cpp._C

pipeline = chatglm_cpp.Pipeline(sys.argv[1])
ids = pipeline.tokenizer.encode("Hello", 64)
while True:
    pipeline.model.generate_next_token(ids, None, chatglm_cpp._C.GenerationConfig(), 0, len(ids))
    print(flush=True)
"""


@pytest.mark.parametrize("threads", [1, 3, 48])
def test_a_child_sees_the_number_of_cpus_that_it_is_given(threads: int) -> None:
    code = "import ctypes; libc = ctypes.CDLL(None); print(libc.get_nprocs(), libc.get_nprocs_conf())"
    result = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(threads), capture_output=True, text=True, check=True
    )
    assert result.stdout == f"{nprocs_for(threads)} {nprocs_for(threads)}\n"


def test_the_library_tells_the_real_number_when_none_is_given() -> None:
    environment = child_environment(1)
    del environment["GLM_NPROCS"]
    code = "import ctypes; print(ctypes.CDLL(None).get_nprocs())"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(result.stdout) == os.sysconf("SC_NPROCESSORS_ONLN")


@pytest.mark.skipif(os.sysconf("SC_NPROCESSORS_ONLN") == 1, reason="one thread is chatglm_cpp's own choice here")
def test_chatglm_cpp_computes_with_the_one_thread_it_was_given() -> None:
    model = CHECKOUT / "demo" / "chatglm3-demo.q8_0.bin"
    with subprocess.Popen(
        [sys.executable, "-c", COMPUTE, model], env=child_environment(1), stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout is not None
            # ggml starts its threads anew for each evaluation, so the most that are seen over many is what it uses.
            most = 0
            for _ in range(30):
                assert child.stdout.readline() == b"\n"
                most = max(most, *(len(os.listdir(f"/proc/{child.pid}/task")) for _ in range(10)))
        finally:
            child.kill()
    assert most == 1
