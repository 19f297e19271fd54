# Everything is installed into the checkout: .venv for the server and its tests, .venv-clients for the clients that the
# tests use, .venv-demo for training the demo model, .venv-bench for measuring, .venv-lock for pinning requirements.
PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# A recipe is one script, so that several recipes can use the checks at the end of this file as steps.
.ONESHELL:
.DELETE_ON_ERROR:
# Two targets that install into .venv at the same time would break it.
.NOTPARALLEL:

# chatglm-cpp 0.4.2 requires a CMake policy that CMake 4 has removed.
export CMAKE_POLICY_VERSION_MINIMUM := 3.5
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BRIDGE := glm_api/pipeline/worker/chatglm_cpp/libbridge.so
NPROCS := benchmarks/libnprocs.so
# These files are as old as the last installation, so a second `make serve` starts at once.
RUNTIME := .venv/.installed
DEV := .venv/.installed-dev
CLIENTS := .venv-clients/.installed .venv-clients-openai-2/.installed
NODE_CLIENTS := tests/clients/node/node_modules/.installed
DEMO := .venv-demo/.installed
BENCH_TOOLS := .venv-bench/.installed
UV := .venv-lock/bin/uv
# Options of `make bench`, such as BENCH="--shape tiny --quick"; BENCH=--help lists them.
BENCH ?=
# Options of `make lock`: LOCK=--upgrade, or LOCK="--upgrade-package flask".
LOCK ?=
# The tests that `make test` runs: all, or TESTS="tests/chat -k tools".
TESTS ?=

.PHONY: help serve setup test check lint format coverage test-tools docs lock clean bench demo-model

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: setup ## Serve the model on 127.0.0.1:8000 (the settings are in README.md)
	@for needed in $$(.venv/bin/python -m config); do
	  installed=.venv/.installed-$${needed%.txt}
	  if [ ! "$$installed" -nt "$$needed" ]; then
	    echo "This model needs $$needed, which is installed now."
	    .venv/bin/pip install --quiet -r "$$needed"
	    touch "$$installed"
	  fi
	done
	exec .venv/bin/gunicorn -c gunicorn.conf.py wsgi:app

setup: $(RUNTIME) $(BRIDGE) ## Install what the server needs, without starting it

test: $(DEV) $(BRIDGE) $(CLIENTS) $(NODE_CLIENTS) ## Run all tests, or TESTS="tests/chat -k tools"
	@exec .venv/bin/pytest $(TESTS)

check: lint $(BRIDGE) ## Check style and types, and run the tests that need no other process (about two minutes)
	@exec .venv/bin/pytest -q -m "not slow"

lint: $(DEV) ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: $(DEV) ## Format the code, and fix what ruff can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# This measures pytest's own process only. Code that runs in the children or in gunicorn's worker does not count.
coverage: $(DEV) $(BRIDGE) ## Measure how much of the code the tests of `make check` reach; fail if it is too little
	@.venv/bin/coverage run -m pytest -q -m "not slow"
	.venv/bin/coverage report

test-tools: $(DEV) ## Install the programs that the tests start, with apt-get
	@packages=$$(.venv/bin/python -m tests.support.programs)
	[ -n "$$packages" ] || { echo "All programs are installed."; exit 0; }
	command -v apt-get > /dev/null || { echo "There is no apt-get; these are Debian's names: $$packages" >&2; exit 1; }
	[ "$$(id -u)" = 0 ] && root= || root=sudo
	$$root apt-get update -q
	# nginx must not start as a service: the tests start their own.
	$$root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $$packages

docs: $(DEV) ## Write the tables of docs/compatibility.md
	.venv/bin/python -m docs.tables

lock: $(UV) ## Pin the packages of the .in files, with hashes; LOCK=--upgrade takes newer versions
	@for name in requirements requirements-hf requirements-llama requirements-dev requirements-bench tests/clients/requirements \
	  tests/clients/requirements-openai-2; do
	  $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --python-platform linux \
	    --custom-compile-command "make lock" $(LOCK) "$$name.in" --output-file "$$name.txt"
	done

clean: ## Remove everything that make has made here, the environments too
	rm -rf .venv $(dir $(CLIENTS)) .venv-bench .venv-demo .venv-lock tests/clients/node/node_modules $(BRIDGE) $(NPROCS) \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +

bench: $(BENCH_TOOLS) $(BRIDGE) $(NPROCS) ## Measure this server beside the bare loop and chatglm_cpp.openai_api (an hour or more)
	@.venv-bench/bin/python -m benchmarks $(BENCH)

demo-model: $(DEMO) ## Train the demo model again (up to two hours)
	@.venv-demo/bin/python -m demo.recipe

$(RUNTIME): requirements.txt
	@$(check_python)
	$(check_compiler)
		$(on_interrupt)
	mkdir -p .venv
	log=.venv/setup.log
	echo "Installing into .venv. The first time, chatglm-cpp is compiled, which takes some minutes:"
	$(PYTHON) -m venv .venv 2>&1 | tee "$$log"
	$(build_chatglm_cpp)
	.venv/bin/pip install -r requirements.txt 2>&1 | tee -a "$$log"
	touch $@

# requirements-dev.txt includes all packages of requirements.txt, so pip resolves them once.
$(DEV): requirements-dev.txt $(RUNTIME)
	@.venv/bin/pip install -r requirements-dev.txt
	touch $@

# Without a network the other tests run nevertheless; the tests that need the clients say what is missing.
.venv-clients/.installed: tests/clients/requirements.txt
.venv-clients-openai-2/.installed: tests/clients/requirements-openai-2.txt
$(CLIENTS):
	@$(PYTHON) -m venv --clear $(@D)
	# The pins are complete, so pip need not resolve them. Without that and without compiling it is a minute faster.
	if $(@D)/bin/pip install --quiet --no-deps --no-compile -r $<; then
	  touch $@
	else
	  echo "The Python clients of $< could not be installed; they are not tested." >&2
	fi

$(NODE_CLIENTS): tests/clients/node/package-lock.json
	@command -v npm > /dev/null || exit 0
	if npm ci --silent --prefix $(dir $<); then
	  touch $@
	else
	  echo "The JavaScript client could not be installed; it is not tested." >&2
	fi

# After .venv, so that chatglm-cpp is built only once: pip caches the wheel.
$(BENCH_TOOLS): requirements-bench.txt $(RUNTIME)
	@$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -r requirements-bench.txt
	touch $@

$(DEMO): demo/recipe/requirements.txt
	@$(check_python)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install -r demo/recipe/requirements.txt
	touch $@

$(UV):
	@$(check_python)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv==0.13.9

$(BRIDGE): glm_api/pipeline/worker/chatglm_cpp/bridge.c
$(NPROCS): benchmarks/nprocs.c
$(BRIDGE) $(NPROCS):
	@$(CC) -shared -fPIC -O2 -Wall -Wextra -o $@ $<

# --- checks of what may be missing; each reports it in one line -------------------------------------------------

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

# Ctrl-C reaches pip and the compilers too. Their messages about it go into pipes whose readers it has ended.
define on_interrupt
trap 'echo "Stopped. The next make setup begins anew." >&2; exit 130' INT
endef

# Shows CMake's percentages. All other output goes to a log; when the build fails, its last lines are shown.
# chatglm-cpp compiles with a plain `make -j`, all files at once; the load limit keeps that from using up the memory.
# Its setup.py splits CMAKE_ARGS at spaces, so CMake reads a copy of the file at a path without spaces.
# pip caches the wheel that it builds, for the next checkout. Before version 23.1 it does not do so when it gets hashes.
define build_chatglm_cpp
awk '/^chatglm-cpp==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.txt > .venv/chatglm-cpp.txt
if .venv/bin/pip --version | awk '{ split($$2, v, "."); exit (v[1] > 23 || (v[1] == 23 && v[2] > 0)) }'; then
  sed -i -e 's/ *\\$$//' -e '/--hash/d' .venv/chatglm-cpp.txt
fi
copy=$$(mktemp -d /tmp/glm-api-XXXXXX)
trap 'rm -r "$$copy"' EXIT
cp chatglm-cpp.cmake "$$copy"
CMAKE_ARGS="$${CMAKE_ARGS:-} -DCMAKE_PROJECT_TOP_LEVEL_INCLUDES=$$copy/chatglm-cpp.cmake" \
MAKEFLAGS="-l$$(($$(getconf _NPROCESSORS_ONLN) + 1))" .venv/bin/pip install -v -r .venv/chatglm-cpp.txt 2>&1 | tee -a "$$log" |
  { grep --line-buffered -oE '\[ *[0-9]+%\] .*' || true; } ||
  { tail -n 40 "$$log"; echo "chatglm-cpp could not be built; all of the output is in $$log." >&2; exit 1; }
endef
