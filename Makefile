# Two commands matter: `make demo` and `make test`. Each installs what it needs into this folder
# (.venv, .sam-venv, .cache) and works offline the second time.

PYTHON ?= python3
PORT ?= 5588

# Everything that is downloaded stays in this folder; nothing phones home.
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export UV_NO_PROGRESS := 1
export UV_PYTHON_DOWNLOADS := never
export SAM_CLI_TELEMETRY := 0
export AWS_EC2_METADATA_DISABLED := true

BIN := $(CURDIR)/.venv/bin
SAM := $(CURDIR)/.sam-venv/bin/sam
UV := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help demo local test lint types contracts unit pipeline validate build bench-sweep lock format docs clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.local ## The main job on one machine: an organisation, Portcullis in it, and what it does
	@$(BIN)/python -m local demo --output build/demo.json

local: .venv/.local ## Keep the local organisation running as an AWS endpoint (PORT=5588)
	@$(BIN)/python -m local serve --port $(PORT)

# The slowest of these mostly waits, so they run side by side. Each is told in one piece where make can do that.
TOGETHER := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
test: lint types contracts .sam-venv/.installed ## Everything that must be green before a change lands
	@$(MAKE) --no-print-directory --jobs=4 $(TOGETHER) pipeline unit validate build
	@echo "make test: all checks passed"

lint: .venv/.tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.tests
	$(BIN)/mypy

contracts: .venv/.tests
	$(BIN)/lint-imports

unit: .venv/.tests ## The package, its adapters and functions, and the contracts
	$(BIN)/pytest --dist=worksteal

pipeline: .venv/.tests ## The local organisation, and Portcullis deployed in it
	$(BIN)/pytest --no-cov --no-loadscope-reorder tests/pipeline tests/local

validate: .sam-venv/.installed
	$(SAM) validate --lint
	$(SAM) validate --lint --template infra/member-account.yaml
	$(SAM) validate --lint --template infra/member-region.yaml

build: .venv/.local .sam-venv/.installed ## Build the deployable stack into .aws-sam (no Docker needed)
	PATH="$(BIN):$$PATH" $(SAM) build

bench-sweep: .venv/.tests ## What a sweep costs: calls, processor time and memory
	@$(BIN)/python -m tests.bench.sweep

format: .venv/.tests ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.local ## Write docs/controls.md from the registry of controls
	$(BIN)/portcullis docs > docs/controls.md

# uv compiles every lock file with hashes, for all platforms and Python >= 3.11.
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate
lock: .venv/.local ## Renew the lock files from the *.in files
	$(LOCK) --python-version 3.11 -o tests/requirements.txt tests/requirements.in
	$(LOCK) --python-version 3.11 -c tests/requirements.txt -o local/requirements.txt local/requirements.in
	$(LOCK) --python-version 3.13 -c tests/requirements.txt -o layers/core/requirements.txt layers/core/requirements.in
	$(LOCK) --python-version 3.11 -o local/bootstrap.txt local/bootstrap.in
	$(LOCK) --python-version 3.11 -o tests/sam/requirements.txt tests/sam/requirements.in

clean: ## Remove everything that was installed or built
	rm -rf .venv .sam-venv .cache .aws-sam build

# The environments. A stamp is renewed when its lock file changes.
.venv/bin/uv: local/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Portcullis needs Python 3.11 or newer; set PYTHON=/path/to/python3")'
	@echo "Installing into .venv (first run only) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r local/bootstrap.txt
	@touch $@

.venv/.local: local/requirements.txt pyproject.toml .venv/bin/uv
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r local/requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.tests: tests/requirements.txt .venv/.local
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r tests/requirements.txt
	@touch $@

.sam-venv/.installed: tests/sam/requirements.txt .venv/bin/uv
	@$(UV) venv --quiet --clear --python $(BIN)/python .sam-venv
	@$(UV) pip install --quiet --python .sam-venv/bin/python --require-hashes --compile-bytecode -r tests/sam/requirements.txt
	@touch $@
