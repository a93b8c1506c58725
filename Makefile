# Everything runs from an environment of its own in .venv; nothing here needs root.

PYTHON ?= python3
LOCK ?= yes
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-puppetserver soak check gates format bench collection clean

help: ## Say what can be made
	@echo 'make WHAT, where WHAT is one of:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo 'PYTHON=python3.X chooses the interpreter of .venv, the first time.'

# Built again only when pyproject.toml has changed: code changes are seen at once, since the install is editable. In
# compat mode, because the default one adds an import hook that doubles the start-up time of Python itself.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]' \
		--config-settings editable_mode=compat
	$(BIN)/python -m compileall -q distlock_core
	@touch $@

demo: $(READY) ## Upgrade three real etcd members, one at a time, under a lock (LOCK=no: without it)
	$(BIN)/python examples/rolling_restart/demo.py $(if $(filter no,$(LOCK)),--no-lock)

test: $(READY) ## Run all tests, against real etcd
	$(BIN)/python -m pytest -n auto

soak: $(READY) ## Kill managers and members for 5 minutes (SECONDS=300 SEED=N): the lock has to stay one
	$(BIN)/python tests/soak/soak.py $(if $(SECONDS),--seconds=$(SECONDS)) $(if $(SEED),--seed=$(SEED))

test-puppetserver: $(READY) ## Run the tests that need a puppetserver, which takes a minute to start
	$(BIN)/python -m pytest -m puppetserver tests/puppet_runs

check: $(READY) ## Lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict distlock_core

gates: $(READY) ## Run ansible-test, ansible-lint, puppet-lint, rspec-puppet and their like on what is built
	$(BIN)/python -m pytest -n auto -m gates tests/ansible_collection tests/puppet_module

format: $(READY) ## Put the code into the form that check wants
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## Measure
	$(BIN)/python -m compileall -q distlock_core
	$(BIN)/python -m bench

collection: $(READY) ## Build the Ansible collection into dist/
	$(BIN)/python tools/build_collection.py

clean: ## Remove .venv and everything else that was made here
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
