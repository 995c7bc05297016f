# Everything a developer runs. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt
# Containers set it; then each of hundreds of processes would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo view test test-all lint environments contract programs backends test-backends test-frameworks test-browser bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp  ## run the examples against a local server and show the sessions that arrive
	@$(BIN)/otel-llm-sessions demo

view: $(VENV)/demo.stamp  ## receive spans, and show the sessions on a page at http://127.0.0.1:4318
	@$(BIN)/otel-llm-sessions view

test: $(VENV)/dev.stamp  ## the fast tests, a minute and a half on two cores
	@$(BIN)/python -m pytest -q

test-all: $(VENV)/dev.stamp  ## the fast and the slow tests
	@$(BIN)/python -m pytest -q -m "not contract and not backends and not frameworks and not browser"

lint: $(VENV)/dev.stamp  ## ruff, mypy --strict, who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict otel_llm_sessions
	@$(BIN)/python -m pytest -q tests/test_import_rules.py

environments: $(VENV)/dev.stamp  ## make all environments that the tests below run in, side by side
	@$(BIN)/python tests/environments.py

contract: $(VENV)/dev.stamp  ## the client's whole surface under every openai version that is promised
	@$(BIN)/python tests/contract/matrix.py contract

programs: $(VENV)/dev.stamp  ## build the real Collector and Jaeger, once (needs Go 1.26, a few minutes)
	@$(BIN)/python tests/backends/programs

backends: programs  ## the real Collector and Jaeger, and Phoenix and MLflow from PyPI, each made once
	@$(BIN)/python tests/backends/environments.py

test-backends: backends  ## the tests that send to the real Collector, Jaeger, Phoenix and MLflow
	@$(BIN)/python -m pytest -q -m backends -n 3 --dist loadfile --no-loadscope-reorder tests/backends

# Three processes for two cores: each waits now and then, for servers that start and stop.
test-frameworks: $(VENV)/dev.stamp  ## conversations through real agent frameworks, beside other instrumentations and in existing pipelines, in environments of their own
	@$(BIN)/python -m pytest -q -m frameworks -n 3 --dist loadscope tests/beside tests/pipelines tests/frameworks

test-browser: $(VENV)/dev.stamp  ## the viewer's page in Debian's Chromium, headless
	@$(BIN)/python -m pytest -q -m browser -n 2 --dist worksteal tests/browser

bench: $(VENV)/dev.stamp  ## instructions and CPU time per call, against the budgets
	@$(BIN)/python -m benchmarks

clean:  ## remove environments and everything that was generated
	rm -rf $(VENV) .venvs .backends build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis callgrind.out.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made again only when what goes into it has changed.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is Python %d.%d; 3.10 or newer is needed: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/demo.stamp: $(VENV)/bin/python $(INPUTS)
	@$(call install,demo)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/bin/python $(INPUTS)
	@$(call install,dev)
	@touch $(VENV)/demo.stamp $@

# One dot per package keeps a slow download from looking like a hang; what pip complains about is shown.
define install
printf 'Setting up $(VENV) for $(1), once '; \
{ $(BIN)/python -m pip install -c constraints.txt -e '.[$(1)]' 2>&1 || echo 'ERROR: set-up failed'; } \
  | awk '/^ *(Collecting|Obtaining|Installing)/ { printf "."; fflush() } \
         /ERROR|error:/ { if (!bad) printf "\n"; bad = 1 } bad { print } END { print bad ? "" : " ready"; exit bad }'
endef
