# What a new user runs. Needs Python 3.11 or newer, make and git; everything else goes into .venv.

PYTHON ?= python3
# The runtime that the tests and benchmarks import reports to nobody either.
export ORT_DISABLE_TELEMETRY := 1
VENV := .venv
BIN := $(VENV)/bin
# The two runtimes break each other, so exactly one is installed. OpenVINO exists for Linux on x86-64 only.
RUNTIME := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),openvino,cpu)
STAMP := $(VENV)/.installed-$(RUNTIME)

.PHONY: help setup demo test check faults bench lock clean

help:
	@echo "make demo    train two detectors, pack them, run the agent on an embedded broker, show alerts"
	@echo "make test    all checks and tests"
	@echo "make check   form and types only"
	@echo "make faults  the full fault matrix of docs/reliability.md (most of an hour); one row: make faults ROWS=half_open"
	@echo "make bench   the quick benchmarks of docs/benchmarks.md"
	@echo "make lock    resolve the pinned versions in requirements/ anew"
	@echo "make clean   remove what these made"

setup: $(STAMP)

$(STAMP): requirements/development.txt requirements/$(RUNTIME).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@echo "setting up $(VENV) with the $(RUNTIME) runtime (about a minute, once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/development.txt -r requirements/$(RUNTIME).txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	@$(BIN)/python tools/demo/demo.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	@tools/ensure_mosquitto.sh
	$(BIN)/pytest tests/unit tests/contract
	$(BIN)/pytest tests/integration tests/packaging tests/faults

# All rows of the full form go into the table of docs/reliability.md; a row alone replaces its line there.
ROWS ?=
RECORD := build/faults.jsonl
faults: $(STAMP)
	@tools/ensure_mosquitto.sh
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/fuzz.txt \
	  || echo "atheris cannot be installed here: the fuzzing is random"
	@rm -f $(RECORD)
	@$(BIN)/pytest tests/faults --full --record $(RECORD) $(if $(ROWS),-k '$(ROWS)'); status=$$?; \
	  $(BIN)/python tests/faults/table.py $(RECORD) docs/reliability.md $(if $(ROWS),--keep); exit $$status

bench: $(STAMP)
	@tools/ensure_mosquitto.sh
	$(BIN)/python tools/benchmarks/agent_cpu.py --turns 2
	$(BIN)/python tools/benchmarks/agent_throughput.py --readings 50001 --turns 2
	$(BIN)/python tools/benchmarks/agent_latency.py --turns 2
	$(BIN)/python tools/benchmarks/agent_idle.py
	$(BIN)/python tools/benchmarks/score_file.py --turns 5
	$(BIN)/python tools/benchmarks/many_assets.py --turns 1
	$(BIN)/python tools/benchmarks/stages.py

# Resolved without naming an index, so that the files hold only names, versions and hashes.
LOCK := pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --annotation-style=line
lock:
	@$(BIN)/$(LOCK) --extra host --extra reports --extra cbor --extra benchmarks --extra sklearn --extra demo --extra dev -o requirements/development.txt pyproject.toml
	@for extra in cpu openvino fuzz; do \
	  $(BIN)/$(LOCK) -c requirements/development.txt --extra $$extra -o requirements/$$extra.txt pyproject.toml || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
