# Everything sets itself up: `make demo`, `make test`. PYTHON picks the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types imports abi chain lock clean

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)  ## four nodes, one job, proved and paid
	$(BIN)/skynet demo $(DEMO)

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

abi: $(STAMP)  ## recompile the contracts into node/artifacts
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python contracts/abi.py

chain: $(STAMP)  ## anvil on 127.0.0.1:8545, for those who want it instead of the embedded chain
	PATH="$(abspath $(BIN)):$$PATH" npm --prefix contracts run anvil

lock: $(STAMP)  ## resolve requirements.lock anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
