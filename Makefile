# Two commands for newcomers (demo, test) and the habits of those who stay. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE # a fleet is a dozen processes that all read the same modules
LANES := compiled fleet fleets crashes workers offchain contracts style
JOBS := 7

.PHONY: help setup demo test $(LANES:%=lane-%) test-contracts test-offchain test-system check fmt locks bench-gas bench-crypto bench-messaging bench-flood bench-darkness bench-dispatch bench-pipeline bench-drift bench-edge bench-severing verify fuzz mutate coverage clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: ## install everything into this folder (pinned, hash-checked, no root)
	@tools/setup

demo: setup ## run a whole fleet on this machine, about two minutes, every line checked
	@ape run demo

test: setup ## check the style, then run every test: contracts, off-chain, system (JOBS=1: one after the other)
	@rm -rf .cache/lanes
	@$(MAKE) --no-print-directory --keep-going -j$(JOBS) $(LANES:%=lane-%); tools/lane --report $(LANES)

# The parts of `make test`, which keep two cores busy: the fleets wait most of the time, the others compute, and let the
# fleets go first, in which real processes wait for one another.
AFTER := nice -n 5

lane-fleet:
	@PYTHONUNBUFFERED=1 tools/lane fleet pytest -p no:ape_test tests/system -m shared_fleet

lane-fleets: lane-compiled
	@PYTHONUNBUFFERED=1 tools/lane fleets pytest -p no:ape_test tests/system -m "not shared_fleet"

lane-crashes:
	@PYTHONUNBUFFERED=1 $(AFTER) tools/lane crashes pytest -p no:ape_test tests/offchain/workers/test_worker_crash.py

lane-workers:
	@PYTHONUNBUFFERED=1 $(AFTER) tools/lane workers pytest -p no:ape_test tests/offchain/workers --ignore tests/offchain/workers/test_worker_crash.py

lane-offchain:
	@PYTHONUNBUFFERED=1 $(AFTER) tools/lane offchain pytest -p no:ape_test tests/offchain --ignore tests/offchain/workers

lane-contracts: lane-compiled
	@PYTHONUNBUFFERED=1 $(AFTER) tools/lane contracts $(MAKE) --no-print-directory test-contracts

lane-style:
	@$(AFTER) tools/lane style $(MAKE) --no-print-directory check

lane-compiled:
	@tools/lane compiled ape compile --force # Ape does not see that a base contract changed

test-contracts: setup
	ape test tests/contracts -q
	FOUNDRY_PROFILE=quick forge test

test-offchain: setup
	pytest -p no:ape_test tests/offchain

test-system: setup
	pytest -p no:ape_test tests/system

check: setup ## formatting, lint, types, layering
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	forge fmt --check contracts tests/forge tests/contracts
	node_modules/.bin/solhint 'contracts/**/*.sol'

fmt: setup ## format Python and Solidity
	ruff check --fix --exit-zero .
	ruff format .
	forge fmt contracts tests/forge tests/contracts

locks: setup ## renew the hash-pinned requirement files from pyproject.toml
	tools/locks

bench-gas: setup ## what every operation costs, its floor and the field (ARGS="--verbose", "--json", "--update")
	@python -m bench.gas $(ARGS)

bench-crypto: setup ## sealing, opening and proof of work beside the field (ARGS="--json")
	@tools/peers
	@python -m bench.crypto --update $(ARGS)

bench-messaging: setup ## throughput, latency and cost of nodes beside the field (ARGS="--line", "--json")
	@tools/peers
	@python -m bench.messaging --update $(ARGS)

bench-flood: setup ## honest messages through a network under attack, five minutes (ARGS="--quick")
	@python -m bench.flood --update $(ARGS)

bench-dispatch: setup ## deals a second and how long one takes, a quarter of an hour (ARGS="--quick", "--json")
	@python -m bench.dispatch --update $(ARGS)

bench-darkness: setup ## who can tell which worker sent an envelope, on 220 nodes (ARGS="--quick", "--seed 2")
	@python -m bench.darkness --update $(ARGS)

bench-pipeline: setup ## a model for each device, and running one, beside scikit-learn, three minutes (ARGS="--quick", "--json")
	@OMP_NUM_THREADS=1 python -m bench.pipeline --update $(ARGS)

bench-drift: setup ## what monitors notice, how soon, and how often for nothing, beside the field, five minutes (ARGS="--quick")
	@[[ "$(ARGS)" == *--quick* ]] || tools/drift-peers
	@OMP_NUM_THREADS=1 python -m bench.drift $(if $(findstring --quick,$(ARGS)),,--update) $(ARGS)

bench-edge: setup ## what a sensor and a model take at the edge, beside scikit-learn, ten minutes (ARGS="--quick", "--only inference")
	@OMP_NUM_THREADS=1 python -m bench.edge $(if $(findstring --,$(ARGS)),,--update) $(ARGS)

bench-severing: setup ## how long a device that was switched off is heard, five minutes (ARGS="--quick")
	@python -m bench.severing --update $(ARGS)

verify: setup ## prove the contracts: fuzz, invariants, symbolic proofs, coverage, static analysis
	@tools/verify-setup
	@tools/verify

fuzz: SECONDS = 60
fuzz: setup ## feed every decoder hostile bytes, guided by coverage, for so long each (SECONDS=5, TARGETS="rlp_readers")
	@tools/fuzz-setup
	@.venv-fuzz/bin/python tests/fuzz/run.py --seconds $(SECONDS) $(TARGETS)

mutate: setup ## how many changes to the contracts the Foundry suites notice, survivors with reasons
	python tests/mutation/run.py $(ARGS)

coverage: setup ## lines and branches of the contracts that no test runs
	@tools/verify coverage

clean: ## remove what setup and runs have made
	rm -rf .venv .venv-verify .venv-fuzz .venv-drift node_modules .build .cache .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
