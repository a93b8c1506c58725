# Everything runs from environments of its own, nothing here needs root: .venv has all that the tests take, and the small
# ones below .envs take seconds to make.

PYTHON ?= python3
LOCK ?= yes
EXTRAS := ansible embedded etcd3 plot salt srv dev
BIN := .venv/bin
READY := .venv/.ready
COLLECTED := .pytest_cache/collected
TRIAL := .envs/trial/bin
TRIAL_READY := .envs/trial/.ready
FLEET := .envs/fleet/bin
FLEET_READY := .envs/fleet/.ready
BENCH := .envs/bench/bin
BENCH_READY := .envs/bench/.ready
ETCD_PINS := tests/etcd_servers
ETCDS := $(patsubst $(ETCD_PINS)/%.mod,build/etcd/%/etcd,$(wildcard $(ETCD_PINS)/[0-9]*.mod))

.DEFAULT_GOAL := help
.PHONY: help demo etcd test test-fast test-wheel test-puppetserver test-bare soak faults check gates format coverage pins bench bench-check bench-fleet pictures collection wheel clean

help: ## Say what can be made
	@echo 'make WHAT, where WHAT is one of:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo 'PYTHON=python3.X chooses the interpreter, the first time.'

# Made again only when what they take has changed: code changes are seen at once, since the install is editable.
$(READY): pyproject.toml tools/pinned.txt tools/environment.py $(wildcard tools/constraints/*.txt)
	@$(PYTHON) tools/environment.py .venv $(EXTRAS)

$(TRIAL_READY): pyproject.toml tools/pinned.txt tools/environment.py $(wildcard tools/constraints/*.txt)
	@$(PYTHON) tools/environment.py .envs/trial embedded

$(BENCH_READY): pyproject.toml tools/pinned.txt tools/environment.py $(wildcard tools/constraints/*.txt)
	@$(PYTHON) tools/environment.py .envs/bench ansible embedded etcd3 salt

$(FLEET_READY): pyproject.toml tools/pinned.txt tools/environment.py $(wildcard tools/constraints/*.txt)
	@$(PYTHON) tools/environment.py .envs/fleet embedded plot

demo: $(TRIAL_READY) ## Upgrade three real etcd members, one at a time, under a lock (LOCK=no: without it)
	$(TRIAL)/python examples/rolling_restart/demo.py $(if $(filter no,$(LOCK)),--no-lock)

# Servers and etcdctl from etcd's own modules: Go compares them with the checksums in X.Y.sum. What was built is renewed
# only with its pins, and Go keeps what it has compiled for the next checkout.
build/etcd/%/etcd: $(ETCD_PINS)/%.mod $(ETCD_PINS)/%.sum
	@command -v go > /dev/null || { echo 'etcd $* is built with Go, which is missing here' >&2; exit 1; }
	cd $(ETCD_PINS) && CGO_ENABLED=0 GOFLAGS= GOTOOLCHAIN=local GOWORK=off go build -modfile=$*.mod -mod=readonly -buildvcs=false \
	    -trimpath -ldflags='-s -w' -o $(CURDIR)/$(@D)/ go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3
	@mv $(@D)/server $@ && touch $@

etcd: $(ETCDS) ## Build the newest etcd servers into build/etcd/, for the tests (needs Go; minutes, the first time)

# The workers would otherwise compile all test files at the same time, each for itself.
$(COLLECTED): $(READY) $(shell find tests -name '*.py')
	@$(BIN)/python -m pytest --collect-only --quiet > /dev/null || true
	@mkdir -p $(@D) && touch $@

test: $(READY) $(COLLECTED) ## Run all tests, against real etcd
	$(BIN)/python -m pytest -n auto

test-wheel: $(READY) ## Install the wheel alone in the oldest and the newest Python here, and run fast tests against it
	@ends=$$($(BIN)/python tools/interpreters.py --ends) && \
	$(BIN)/nox --sessions $$(echo "$$ends" | sed 's/ .*//; s/^/wheel-/')

soak: $(TRIAL_READY) ## Kill managers and members for 5 minutes (SECONDS=300 SEED=N): the lock has to stay one
	$(TRIAL)/python -m tests.support.soak.run $(if $(SECONDS),--seconds=$(SECONDS)) $(if $(SEED),--seed=$(SEED))

faults: $(TRIAL_READY) ## Disturb eight clients and their etcd for 10 minutes (MINUTES=10 SEED=N ETCD=BINARY), and check the history
	$(TRIAL)/python -m tests.support.faults.run $(if $(MINUTES),--minutes=$(MINUTES)) $(if $(SEED),--seed=$(SEED)) \
	    $(if $(ETCD),--etcd=$(ETCD))

test-fast: $(READY) ## Run some tests of every package, against one real etcd, in under a minute
	$(BIN)/python -m pytest -n auto $$($(BIN)/python -m tests.support.fast_lane)

test-puppetserver: $(READY) ## Run the tests that need a puppetserver, which takes a minute to start
	$(BIN)/python -m pytest -m puppetserver tests/puppet_runs

test-bare: ## Run the demo in a bare Debian, as an ordinary user (needs root and debootstrap)
	tools/bare_debian.sh

check: $(READY) ## Lint, format, types, spelling, and the order of the packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	git ls-files -z | xargs -0 $(BIN)/codespell
	$(BIN)/python -m pytest --quiet tests/test_layout.py

gates: $(READY) ## Run ansible-test, ansible-lint, puppet-lint, rspec-puppet and their like on what is built
	$(BIN)/python -m pytest -n auto -m gates tests/ansible_collection tests/puppet_module tests/salt_modules

format: $(READY) ## Put the code into the form that check wants
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

coverage: $(READY) ## Measure what the tests cover, for information (TESTS=tests/lock: a part of them)
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n auto $(TESTS) || true
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

pins: ## Renew tools/constraints/, the versions of what .venv takes, for each Python that is here
	$(PYTHON) tools/pins.py $(EXTRAS)

bench: $(BENCH_READY) ## Measure
	$(BENCH)/python -m compileall -q distlock_core
	$(BENCH)/python -m bench
	$(BENCH)/python -m bench.adapters

bench-fleet: $(FLEET_READY) ## Simulate a fleet on three members, and draw build/bench/fleet.svg (NODES=10000)
	$(FLEET)/python -m bench.fleet $(if $(NODES),--nodes=$(NODES))
	$(FLEET)/python -m bench.picture build/bench/fleet.json build/bench/fleet.svg

bench-check: $(READY) ## Compare counts (modules, instructions, commits, bytes) with those expected (RENEW=yes: write them anew)
	$(BIN)/python -m compileall -q distlock_core
	$(BIN)/python -m bench.check $(if $(RENEW),--renew)

pictures: $(READY) ## Draw the pictures of docs/history.md
	$(BIN)/python tools/draw_pictures.py docs

collection: $(TRIAL_READY) ## Build the Ansible collection into dist/
	$(TRIAL)/python tools/build_collection.py

wheel: $(TRIAL_READY) ## Build the Python package into dist/, to install it elsewhere
	$(TRIAL)/python tools/build_wheel.py

clean: ## Remove .venv and everything else that was made here
	rm -rf .venv .envs .nox build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
