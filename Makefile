# Set-up and the main commands; `make` alone lists them. Everything is installed into .venv.

PYTHON ?= python3
DEVICE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
REQUIREMENTS_cpu := --no-deps -r cluster/requirements/cpu.txt
REQUIREMENTS_cuda := -r cluster/requirements/gpu.txt
REQUIREMENTS := $(REQUIREMENTS_$(DEVICE))

# The stamp is named after all that decides what .venv holds, the place of the checkout included.
KEY := $(shell (echo "$(DEVICE) $(CURDIR)"; cat cluster/requirements/*.txt pyproject.toml) | sha256sum | cut -c1-16)
STAMP := .venv/installed-$(KEY)
RUN := .venv/bin/python -m
PIP := $(RUN) pip -qq --disable-pip-version-check

PRESET ?= $(if $(DATA),movielens_1m,simulate)
DEMO_SET := $(if $(DATA),"data=$(DATA)") $(if $(MODEL),"model=$(MODEL)") $(if $(filter-out 0 false,$(KEEP)),keep=true)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long test-unit lint doctor clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Options: DEVICE=cpu|cuda (now $(DEVICE)), PYTHON=python3.11 (3.11 or newer)"

install: $(STAMP)  ## make .venv with everything that Winnow needs; at once if it is there

$(STAMP):
	@test -n "$(REQUIREMENTS)" || { echo "DEVICE must be cpu or cuda, got '$(DEVICE)'" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "Winnow needs Python 3.11 or newer, $(PYTHON) is older or absent; try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv for $(DEVICE); this takes a few minutes, once."
	@rm -f .venv/installed-*
	@$(PIP) install $(REQUIREMENTS)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## raw logs to served recommendations; DATA=<ml-1m folder>, MODEL=<real model>, KEEP=1 to go on serving
	@$(RUN) jobs.demo --config $(PRESET) $(if $(strip $(DEMO_SET)),--set $(DEMO_SET))

# Two files at a time, each with a cluster of its own: such tests mostly wait for processes to start.
PARALLEL := --durations=10 -n 2 --dist loadfile

test: test-unit  ## all tests, the fast ones first
	@$(RUN) pytest tests --ignore=tests/unit -m "not long" $(PARALLEL)

test-long: install  ## clusters that lose nodes, every task and backend with real vLLM, the demo: 25 minutes
	@$(RUN) pytest tests -m long $(PARALLEL)

test-unit: install  ## the tests that need no Ray
	@$(RUN) pytest tests/unit lib -m "not long" $(PARALLEL)

lint: install  ## style, types, spelling
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) codespell_lib

doctor: install  ## check this machine and say what to do about each problem
	@$(RUN) winnow.cli doctor

clean:  ## remove caches and build output; .venv and runs stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist lib/winnow.egg-info
	find cluster jobs lib serve tests -name __pycache__ -type d -prune -exec rm -rf {} +
