# mlproxy: everything a person or CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
NATIVE := $(wildcard kmod/core/*.[ch] kmod/uapi/*.h plugins/*/csrc/*.[ch] orchestrator/mlproxy/*/csrc/*.[ch])

.PHONY: setup demo test lint fuzz clean native
setup: $(STAMP)

$(STAMP): pyproject.toml orchestrator/build_native.py $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install -q --disable-pip-version-check -e . --group dev
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

# Half the time for the core's API under ASan and UBSan, half for every parser.
SECONDS ?= 60
SEED ?= 1
fuzz: setup
	$(BIN)/python tests/native/build.py fuzz_api out/fuzz_api
	out/fuzz_api $$(( $(SECONDS) / 2 )) $(SEED)
	$(BIN)/python tests/fuzz/run.py $$(( $(SECONDS) / 2 )) --seed $(SEED)

clean:
	rm -rf $(VENV) build
	find . -name '*.so' -path './orchestrator/*' -delete -o -name '*.so' -path './plugins/*' -delete
