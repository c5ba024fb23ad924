# Two commands for newcomers (demo, test) and the habits of those who stay. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test check fmt locks clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: ## install everything into this folder (pinned, hash-checked, no root)
	@tools/setup

demo: setup ## run a whole fleet on this machine, about a minute, every line checked
	@ape run demo

test: setup ## check the style, then run every test: contracts, off-chain, system
	@$(MAKE) --no-print-directory check
	ape compile --force # Ape does not see that a base contract changed
	ape test tests/contracts -q
	ape test tests/contracts/test_gas_ceilings.py -q --network ethereum:local:foundry
	pytest -p no:ape_test tests/offchain tests/system

check: setup ## formatting, lint, types, layering
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	forge fmt --check contracts
	node_modules/.bin/solhint 'contracts/**/*.sol'

fmt: setup ## format Python and Solidity
	ruff check --fix --exit-zero .
	ruff format .
	forge fmt contracts

locks: setup ## renew the hash-pinned requirement files from pyproject.toml
	tools/locks

clean: ## remove what setup and runs have made
	rm -rf .venv node_modules .build .cache .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
