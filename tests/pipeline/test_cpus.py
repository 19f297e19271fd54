"""There are as many threads as CPUs that the process may use, and chatglm_cpp obeys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glm_api.backend.admission import RequestStatus
from glm_api.pipeline.cpus import CHECKOUT, child_environment, usable_cpus
from glm_api.pipeline.job import Job
from tests.support.model_files.fixtures import DEMO_MODEL

from .conftest import MakePipeline, collect

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


def test_a_child_finds_the_package_whatever_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/opt/py")
    assert child_environment()["PYTHONPATH"] == f"{CHECKOUT}:/opt/py"
    monkeypatch.delenv("PYTHONPATH")
    assert child_environment()["PYTHONPATH"] == str(CHECKOUT)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_pipeline_process_computes_with_the_threads_it_is_given(make_pipeline: MakePipeline, threads: int) -> None:
    pipeline = make_pipeline(DEMO_MODEL, threads=threads, prefill="batch")
    # When this is answered, nothing is measured any more.
    collect(pipeline.generate(Job(prompts=[[5]], max_tokens=1)))
    tasks = Path(f"/proc/{pipeline.pids['pipeline']}/task")
    idle = len(list(tasks.iterdir()))
    generation = pipeline.generate(Job(prompts=[[5 + index % 200 for index in range(1500)]], max_tokens=1))
    most = idle
    while generation.status is not RequestStatus.FINISHED:
        most = max(most, len(list(tasks.iterdir())))
    # The thread that evaluates computes too.
    assert most - idle == threads - 1
