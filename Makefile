# Everything is kept in the checkout: .venv for the server and its tests, .venv-demo for training the demo model,
# .venv-bench for measuring.
PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# A recipe is one script, so that the checks at the end of this file can be steps of several.
.ONESHELL:
.DELETE_ON_ERROR:
# Two targets that install into .venv at once would break it.
.NOTPARALLEL:

# chatglm-cpp 0.4.2 asks for a CMake policy that CMake 4 has dropped.
export CMAKE_POLICY_VERSION_MINIMUM := 3.5
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SHIM := glm_api/pipeline/worker/libnprocs.so
# Files that are as old as the last installation: a second `make serve` starts at once.
RUNTIME := .venv/.installed
DEV := .venv/.installed-dev
DEMO := .venv-demo/.installed
BENCH_TOOLS := .venv-bench/.installed
# Options of `make bench`, such as BENCH="--shape tiny --quick"; --help lists them.
BENCH ?=

.PHONY: help serve setup test lint bench demo-model

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: setup ## Serve the model on 127.0.0.1:8000 (the settings are in README.md)
	@exec .venv/bin/gunicorn -c gunicorn.conf.py wsgi:app

setup: $(RUNTIME) $(SHIM) ## Install what the server needs, without starting it

# Some tests open models in pytest's own process, where ggml's threads would spin against those of the servers.
test: $(DEV) $(SHIM) ## Run the tests
	@export LD_LIBRARY_PATH="$(CURDIR)/$(dir $(SHIM))" LD_PRELOAD=$(notdir $(SHIM)) GLM_NPROCS=1
	exec .venv/bin/pytest

lint: $(DEV) ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: $(BENCH_TOOLS) $(SHIM) ## Measure beside the bare loop and chatglm-cpp's own server (half an hour or more)
	@.venv-bench/bin/python -m benchmarks $(BENCH)

demo-model: $(DEMO) ## Train the demo model anew (up to two hours)
	@.venv-demo/bin/python -m demo.recipe

$(RUNTIME): requirements.txt
	@$(check_python)
	$(check_compiler)
	$(PYTHON) -m venv .venv
	$(build_chatglm_cpp)
	.venv/bin/pip install -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt requirements-hf.txt $(RUNTIME)
	@.venv/bin/pip install -r requirements-dev.txt
	touch $@

# After .venv, so that chatglm-cpp is built once: pip keeps what it has built.
$(BENCH_TOOLS): requirements-bench.txt $(RUNTIME)
	@$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -r requirements-bench.txt
	touch $@

$(DEMO): demo/recipe/requirements.txt
	@$(check_python)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install -r demo/recipe/requirements.txt
	touch $@

$(SHIM): glm_api/pipeline/worker/nprocs.c
	@$(CC) -shared -fPIC -O2 -Wall -Wextra -o $@ $<

# --- what may be missing, each said in one line -----------------------------------------------------------------

define check_python
stop() { echo "$$1" >&2; exit 1; }
command -v "$(PYTHON)" > /dev/null ||
  stop "Python 3.11 or newer is needed, and there is no $(PYTHON). Another one can be named: make PYTHON=python3.12 ..."
"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  stop "Python 3.11 or newer is needed, and $(PYTHON) is $$("$(PYTHON)" -V 2>&1). Another one can be named: make PYTHON=python3.12 ..."
"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null ||
  stop "The venv module of $(PYTHON) is missing (Debian: apt-get install python3-venv)."
endef

define check_compiler
stop() { echo "$$1" >&2; exit 1; }
command -v "$(CC)" > /dev/null && command -v "$${CXX:-c++}" > /dev/null ||
  stop "A C and a C++ compiler are needed to build chatglm-cpp (Debian: apt-get install g++)."
"$(PYTHON)" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2> /dev/null ||
  stop "The header files of $(PYTHON) are needed to build chatglm-cpp (Debian: apt-get install python3-dev)."
endef

# Shows CMake's own percentages; everything else goes to a log, whose end is shown when the build fails.
# chatglm-cpp compiles with a plain `make -j`, all files at once; the load limit keeps that from eating up the memory.
define build_chatglm_cpp
echo "Installing into .venv. chatglm-cpp is compiled the first time, which takes some minutes:"
log=.venv/chatglm-cpp.log
MAKEFLAGS="-l$$(($$(getconf _NPROCESSORS_ONLN) + 1))" .venv/bin/pip install -v "$$(grep '^chatglm-cpp==' requirements.txt)" 2>&1 | tee "$$log" |
  { grep --line-buffered -oE '\[ *[0-9]+%\] .*' || true; } ||
  { tail -n 40 "$$log"; echo "chatglm-cpp could not be built; all of the output is in $$log." >&2; exit 1; }
endef
