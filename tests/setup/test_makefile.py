"""`make setup` says in one line what is missing, shows that it works, and does nothing twice.

Python, pip and the compiler are stand-ins here: what is tested is what the Makefile makes of them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.processes import until

ROOT = Path(__file__).resolve().parents[2]

CHATGLM_CPP = "pip install -v -r .venv/chatglm-cpp.txt"
PYTHON = """#!/bin/bash
case "$*" in
  *version_info*) exit 0 ;;
  *"import ensurepip"*) exit {venv_missing} ;;
  *Python.h*) exit {headers_missing} ;;
  "-m venv --clear .venv-clients"*) mkdir -p "$4/bin" && cp "$(dirname "$0")/pip" "$4/bin/" ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$(dirname "$0")/pip" .venv/bin/ ;;
esac
"""
OLD_PYTHON = """#!/bin/bash
[ "$1" = -V ] && echo "Python 3.9.2" || exit 1
"""
PIP = """#!/bin/bash
[ "$1" = --version ] && {{ echo "pip {version} from somewhere (python 3.11)"; exit; }}
echo "pip $*" >> calls
echo "$CMAKE_ARGS" >> cmake-arguments
[ -z "$CMAKE_ARGS" ] || cp "${{CMAKE_ARGS##*=}}" chatglm-cpp.cmake.seen
echo "Collecting something"
echo "  [ 10%] Building CXX object sampling.cpp.o"
"""
OLD_PIP = PIP.format(version="23.0.1")
PIP = PIP.format(version="23.1")
BROKEN_PIP = PIP + "echo 'fatal error: no such thing'\nexit 1\n"
# Python and pip tell at length that they were interrupted.
INTERRUPTED = """trap 'echo Traceback; echo KeyboardInterrupt >&2; exit 1' INT
touch {step}
while sleep 0.01; do :; done
"""
COMPILER = """#!/bin/bash
while [ "$1" != -o ]; do shift; done
touch "$2"
"""


class Checkout:
    """A copy of what the Makefile needs, and a PATH on which only stand-ins and a few plain tools are found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bin = path / "bin"
        bridge = Path("glm_api/pipeline/worker/chatglm_cpp/bridge.c")
        (path / bridge).parent.mkdir(parents=True)
        for name in ("Makefile", "requirements.txt", "chatglm-cpp.cmake", bridge):
            shutil.copy(ROOT / name, path / name)
        self.bin.mkdir()
        for tool in (
            *("make", "bash", "awk", "sed", "grep", "tee", "tail", "touch", "mkdir", "mktemp", "cp", "rm"),
            *("dirname", "getconf", "sleep"),
        ):
            real = shutil.which(tool)
            assert real is not None
            (self.bin / tool).symlink_to(real)

    def install(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": os.environ.get("HOME", "/")}

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments],
            cwd=self.path,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def complaint(self, *arguments: str) -> str:
        """The one line that `make` fails with, besides its own."""
        result = self.make(*arguments)
        assert result.returncode != 0
        assert not (self.path / ".venv").exists()
        lines = [line for line in (result.stdout + result.stderr).splitlines() if not line.startswith("make: ***")]
        assert len(lines) == 1, lines
        return lines[0]

    @property
    def calls(self) -> list[str]:
        path = self.path / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def complete(checkout: Checkout) -> Checkout:
    return stand_ins(checkout)


def stand_ins(checkout: Checkout) -> Checkout:
    """The checkout, with everything that `make setup` looks for."""
    checkout.install("python3", PYTHON.format(venv_missing=0, headers_missing=0))
    checkout.install("pip", PIP)
    for compiler in ("cc", "c++"):
        checkout.install(compiler, COMPILER)
    return checkout


def test_no_python(checkout: Checkout) -> None:
    assert checkout.complaint("setup").startswith("Python 3.11 or newer is needed, and there is no python3.")


def test_old_python(complete: Checkout) -> None:
    complete.install("python3", OLD_PYTHON)
    assert complete.complaint("setup").startswith("Python 3.11 or newer is needed, and python3 is Python 3.9.2.")


def test_another_python_can_be_named(complete: Checkout) -> None:
    (complete.bin / "python3").rename(complete.bin / "python3.12")
    assert complete.make("setup", "PYTHON=python3.12").returncode == 0


def test_no_venv_module(complete: Checkout) -> None:
    complete.install("python3", PYTHON.format(venv_missing=1, headers_missing=0))
    assert "python3-venv" in complete.complaint("setup")


@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_no_compiler(complete: Checkout, compiler: str) -> None:
    (complete.bin / compiler).unlink()
    assert complete.complaint("setup").startswith("A C and a C++ compiler are needed to build chatglm-cpp")


def test_no_headers(complete: Checkout) -> None:
    complete.install("python3", PYTHON.format(venv_missing=0, headers_missing=1))
    assert "python3-dev" in complete.complaint("setup")


def test_the_compilation_is_announced_and_its_progress_shown(complete: Checkout) -> None:
    result = complete.make("setup")
    assert result.returncode == 0, result.stderr
    assert "takes some minutes" in result.stdout
    assert "[ 10%] Building CXX object sampling.cpp.o" in result.stdout.splitlines()
    assert complete.calls == [CHATGLM_CPP, "pip install -r requirements.txt"]
    assert (complete.path / "glm_api/pipeline/worker/chatglm_cpp/libbridge.so").exists()


def test_a_failed_compilation_shows_the_end_of_its_output(complete: Checkout) -> None:
    complete.install("pip", BROKEN_PIP)
    result = complete.make("setup")
    assert result.returncode != 0
    assert "fatal error: no such thing" in result.stdout
    assert "chatglm-cpp could not be built; all of the output is in .venv/setup.log." in result.stderr
    assert complete.calls == [CHATGLM_CPP]
    complete.install("pip", PIP)
    assert complete.make("setup").returncode == 0, "the next try begins anew"


NEEDING_PYTHON = """#!/bin/bash
[ "$*" = "-m config" ] && echo "$NEEDS"
"""
GUNICORN = """#!/bin/bash
echo "serving with $*"
"""


@pytest.fixture
def served(complete: Checkout) -> Checkout:
    """A checkout in which everything is installed but what some models need."""
    assert complete.make("setup").returncode == 0
    for name, script in (("python", NEEDING_PYTHON), ("gunicorn", GUNICORN)):
        complete.install(name, script)
        (complete.bin / name).rename(complete.path / ".venv/bin" / name)
    for name in ("requirements-hf.txt", "requirements-llama.txt"):
        shutil.copy(ROOT / name, complete.path / name)
    (complete.path / "calls").unlink()
    return complete


def test_serve_installs_what_the_model_needs_and_says_so(served: Checkout) -> None:
    result = served.make("serve", NEEDS="requirements-hf.txt requirements-llama.txt")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "serving with -c gunicorn.conf.py wsgi:app"
    assert "This model needs requirements-llama.txt, which is installed now." in result.stdout.splitlines()
    assert served.calls == [f"pip install --quiet -r requirements-{name}.txt" for name in ("hf", "llama")]


def test_serve_installs_nothing_twice_and_nothing_that_is_not_needed(served: Checkout) -> None:
    for needs in ("", "requirements-llama.txt", "requirements-llama.txt"):
        assert served.make("serve", NEEDS=needs).returncode == 0
    assert served.calls == ["pip install --quiet -r requirements-llama.txt"]


def test_chatglm_cpp_is_checked_by_its_hash(complete: Checkout) -> None:
    complete.make("setup")
    required = (complete.path / ".venv/chatglm-cpp.txt").read_text()
    assert re.fullmatch(r"chatglm-cpp==0\.4\.2 \\\n    --hash=sha256:[0-9a-f]{64}\n", required)


def test_a_pip_that_builds_anew_what_has_a_hash_gets_none(complete: Checkout) -> None:
    complete.install("pip", OLD_PIP)
    complete.make("setup")
    assert (complete.path / ".venv/chatglm-cpp.txt").read_text() == "chatglm-cpp==0.4.2\n"


@pytest.mark.parametrize("folder", ["checkout", "a check out"])
def test_cmake_is_told_what_to_leave_out_wherever_the_checkout_is(tmp_path: Path, folder: str) -> None:
    complete = stand_ins(Checkout(tmp_path / folder))
    assert complete.make("setup", CMAKE_ARGS="-DMINE=1").returncode == 0
    first, *_ = (complete.path / "cmake-arguments").read_text().splitlines()
    # chatglm-cpp's setup.py splits them at spaces.
    mine, ours = first.split(" ")
    assert mine == "-DMINE=1"
    name, _, file = ours.partition("=")
    assert name == "-DCMAKE_PROJECT_TOP_LEVEL_INCLUDES"
    assert (complete.path / "chatglm-cpp.cmake.seen").read_text() == (ROOT / "chatglm-cpp.cmake").read_text()
    assert not Path(file).exists(), "the copy is removed"


@pytest.mark.parametrize("step", ["venv", "chatglm-cpp", "the rest"])
def test_ctrl_c_ends_it_in_one_line(complete: Checkout, step: str) -> None:
    waits = INTERRUPTED.format(step="begun")
    if step == "venv":
        complete.install("python3", PYTHON.format(venv_missing=0, headers_missing=0) + waits)
    else:
        condition = "-v" if step == "chatglm-cpp" else "-r"
        complete.install("pip", PIP + f'[ "$2" = {condition} ] || exit 0\n{waits}')
    with subprocess.Popen(
        ["make", "setup"],
        cwd=complete.path,
        env=complete.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, SIGINT may be ignored, and make would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as make:
        until((complete.path / "begun").exists)
        # As a terminal does: to all of them at once.
        os.killpg(make.pid, signal.SIGINT)
        output, _ = make.communicate(timeout=60)
    # make tells in one or two lines of its own that the recipe failed, depending on which of them it hears of first.
    lines = [line for line in output.splitlines() if not line.startswith("make: *** ")]
    assert lines[-1] == "Stopped. The next make setup begins anew."
    assert not [line for line in lines if "Interrupt" in line or "Traceback" in line or "could not" in line]
    assert not (complete.path / ".venv/.installed").exists()


def test_the_second_time_nothing_is_done(complete: Checkout) -> None:
    complete.make("setup")
    first = complete.calls
    (complete.bin / "c++").unlink()  # what is installed needs no compiler any more
    result = complete.make("setup")
    assert result.returncode == 0
    assert complete.calls == first


def test_changed_requirements_are_installed(complete: Checkout) -> None:
    complete.make("setup")
    later = time.time() + 10
    os.utime(complete.path / "requirements.txt", (later, later))
    complete.make("setup")
    assert complete.calls.count("pip install -r requirements.txt") == 2


@pytest.mark.parametrize("suffix", ["", "-openai-2"])
def test_the_clients_are_installed_where_there_is_a_network(complete: Checkout, suffix: str) -> None:
    installed = f".venv-clients{suffix}/.installed"
    shutil.copytree(ROOT / "tests/clients", complete.path / "tests/clients", ignore=lambda *_: ["node_modules"])
    complete.install("pip", BROKEN_PIP)
    result = complete.make(installed)
    assert (result.returncode, result.stderr) == (
        0,
        f"The Python clients of tests/clients/requirements{suffix}.txt could not be installed; they are not tested.\n",
    )
    assert not (complete.path / installed).exists()
    complete.install("pip", PIP)
    assert complete.make(installed).returncode == 0
    assert (complete.path / installed).exists()


@pytest.mark.parametrize(
    "npm", [None, "exit 1", "mkdir tests/clients/node/node_modules"], ids=["missing", "fails", "there"]
)
def test_the_javascript_client_is_installed_where_there_are_npm_and_a_network(
    complete: Checkout, npm: str | None
) -> None:
    stamp = "tests/clients/node/node_modules/.installed"
    shutil.copytree(ROOT / "tests/clients", complete.path / "tests/clients", ignore=lambda *_: ["node_modules"])
    if npm:
        complete.install("npm", f"#!/bin/bash\n{npm}\n")
    result = complete.make(stamp)
    assert result.returncode == 0
    assert ("could not be installed" in result.stderr) == (npm == "exit 1")
    assert (complete.path / stamp).exists() == (npm == "mkdir tests/clients/node/node_modules")


def test_help_lists_the_targets(checkout: Checkout) -> None:
    result = checkout.make()
    listed = {line.split()[1] for line in result.stdout.splitlines()}
    assert {"help", "serve", "setup", "test", "check", "lint", "format", "demo-model"} <= listed
    assert all(len(line.split()) > 3 for line in result.stdout.splitlines())
