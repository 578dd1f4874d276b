# mlproxy: everything a person or CI runs. `make setup` is made of nothing but
# Python 3.11+, a C compiler and pip; it may be called again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
NATIVE_STAMP := $(VENV)/.native-stamp
NATIVE := $(wildcard kmod/core/*.[ch] kmod/uapi/*.h plugins/*/csrc/*.[ch] plugins/*/csrc/*/*.[ch] \
	orchestrator/mlproxy/*/csrc/*.[ch]) orchestrator/build_native.py
SECONDS ?= 60
SEED ?= 1
KERNEL ?= 6.12 6.1 7
CASE ?=
RESULTS ?=
FS ?= nilfs
COUNT ?= 20

.PHONY: help setup native demo test lint fuzz vmtest powerfail docs clean
help:
	@echo "make demo    watch models learn on recorded write streams (sets itself up)"
	@echo "make test    lint, types, all tests"
	@echo "make fuzz    every parser and the core's API, SECONDS=60"
	@echo "make vmtest  the kernel module on real kernels under QEMU (root; KERNEL='6.12 6.1 7 debug' CASE=)"
	@echo "make powerfail  cut a guest's power while it cleans, COUNT=20 times (root; FS=nilfs KERNEL=6.12)"
	@echo "make docs    write the reference pages that come from the code"
	@echo "make setup   virtual environment and native parts, in $(VENV)"
	@echo "make clean   remove what was made"

setup: $(STAMP) $(NATIVE_STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install -q --disable-pip-version-check -e . --group dev
	touch $@ $(NATIVE_STAMP)

# A changed C file costs a compilation, not a new installation.
$(NATIVE_STAMP): $(NATIVE) | $(STAMP)
	$(BIN)/python orchestrator/build_native.py
	touch $@

# Rebuild the C parts in place, without pip.
native:
	$(BIN)/python orchestrator/build_native.py

demo: setup
	$(BIN)/mlproxy demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

fuzz: setup
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) --seed $(SEED)

vmtest: setup
	$(BIN)/python tests/vm/run.py $(foreach k,$(KERNEL),--kernel $(k)) \
		$(if $(CASE),--case "$(CASE)") $(if $(WITHOUT),--without "$(WITHOUT)") \
		$(if $(RESULTS),--results "$(RESULTS)")

powerfail: setup
	$(BIN)/python tests/vm/powerfail.py $(FS) $(foreach k,$(firstword $(KERNEL)),--kernel $(k)) \
		--count $(COUNT) --seed $(SEED)

docs: setup
	$(BIN)/python -m mlproxy.cli.reference docs

clean:
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find orchestrator plugins -name '*.so' -delete
