# What a new user runs. Needs Python 3.11 or newer, make and git; everything else goes into .venv.

PYTHON ?= python3
# The runtime that the tests and benchmarks import reports to nobody either.
export ORT_DISABLE_TELEMETRY := 1
VENV := .venv
BIN := $(VENV)/bin
# The two runtimes break each other, so exactly one is installed; which one there is depends on system and Python.
RUNTIME := $(shell $(PYTHON) edge_agent/engine/wheels.py 2>/dev/null || echo none)
STAMP := $(VENV)/.installed-$(RUNTIME)
# Of the demo: auto takes mosquitto where it is installed, else nats-server, which comes with the demo's packages.
BROKER := auto

.PHONY: help setup demo screenshot test systemd neighbours check test-unit test-lowest test-tensorflow test-homeassistant test-spark faults bench lock clean

help:
	@echo "make demo    train two detectors, pack them, run the agent beside a broker, show alerts"
	@echo "make screenshot  the picture of the dashboard in the README, in a real browser"
	@echo "make test    all checks and tests"
	@echo "make test-unit    unit and contract tests only"
	@echo "make test-lowest  those with the lowest versions that pyproject.toml allows"
	@echo "make test-tensorflow  edgetool export of TensorFlow and Keras, which are left out above (2 GB, some minutes)"
	@echo "make test-homeassistant  Home Assistant itself beside an agent, which needs Python 3.13 and is left out above"
	@echo "make test-spark  the recipe of docs/scale.md in Spark, which needs Java and is left out above (900 MB, a minute or two)"
	@echo "make neighbours  alerts through Node-RED into a mail, a ticket and InfluxDB (installs them, 200 MB)"
	@echo "make systemd the tests in a real systemd at length, as root (a quarter of an hour)"
	@echo "make check   form and types only"
	@echo "make faults  the full fault matrix of docs/reliability.md (most of an hour); one row: make faults ROWS=half_open; another broker: BROKER=rabbitmq"
	@echo "make bench   the quick benchmarks of docs/benchmarks.md"
	@echo "make lock    resolve the pinned versions in requirements/ anew"
	@echo "make clean   remove what these made"

# The picture that the README shows.
screenshot: $(STAMP)
	@tools/ensure.sh mosquitto chromium
	@$(BIN)/python tools/demo/screenshot.py

setup: $(STAMP)

$(STAMP): requirements/development.txt requirements/$(RUNTIME).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@echo "setting up $(VENV) with the $(RUNTIME) runtime (about a minute, once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/development.txt -r requirements/$(RUNTIME).txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# PyTorch comes from two places: its build for CPUs lies on an index of its own, that with CUDA, gigabytes, on the usual one.
TORCH := $(VENV)/.installed-torch
$(TORCH): $(STAMP) requirements/torch.txt requirements/torch-cpu.txt requirements/torch-cuda.txt
	@echo "adding PyTorch to $(VENV), for the tests of edgetool export"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements/torch.txt -r requirements/torch-cpu.txt \
	  || { echo "PyTorch's build for CPUs is not on the index that pip uses (see requirements/torch-cpu.txt); taking the other one"; \
	    $(BIN)/python -m pip install --quiet --require-hashes -r requirements/torch-cuda.txt; }
	@touch $@

# Where there is no runtime, this says why.
requirements/none.txt:
	@$(PYTHON) edge_agent/engine/wheels.py

demo: $(STAMP)
	@$(BIN)/python tools/demo/demo.py --broker $(BROKER)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# No sockets, clocks or files shared, so the tests may run beside each other.
UNIT_TESTS := pytest -n auto tests/unit tests/contract

test-unit: $(STAMP)
	$(BIN)/$(UNIT_TESTS)

LOWEST := .venv-lowest
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/$(UNIT_TESTS)

$(LOWEST)/.installed: requirements/lowest.txt pyproject.toml
	@echo "setting up $(LOWEST) with the lowest versions that pyproject.toml allows"
	@rm -rf $(LOWEST)
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --require-hashes -r requirements/lowest.txt
	@$(LOWEST)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# TensorFlow takes 2 GB, so what needs it runs by itself; docs/export.md has the last result.
TENSORFLOW := .venv-tensorflow
TENSORFLOW_TESTS := tests/separate/test_export_keras.py tests/separate/test_pages_keras.py
test-tensorflow: $(TENSORFLOW)/.installed
	$(TENSORFLOW)/bin/pytest -n auto $(TENSORFLOW_TESTS)

$(TENSORFLOW)/.installed: requirements/development.txt requirements/cpu.txt requirements/tensorflow.txt pyproject.toml
	@echo "setting up $(TENSORFLOW) with TensorFlow (2 GB, some minutes, once)"
	@rm -rf $(TENSORFLOW)
	@$(PYTHON) -m venv $(TENSORFLOW)
	@$(TENSORFLOW)/bin/python -m pip install --quiet --require-hashes -r requirements/development.txt -r requirements/cpu.txt \
	  -r requirements/tensorflow.txt
	@$(TENSORFLOW)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Home Assistant wants a Python of its own; docs/integrations/home-assistant.md has the last result.
HOMEASSISTANT := .venv-homeassistant
PYTHON313 ?= python3.13
test-homeassistant: $(STAMP) $(HOMEASSISTANT)/.installed
	@tools/ensure.sh mosquitto
	$(BIN)/pytest tests/separate/test_home_assistant.py

$(HOMEASSISTANT)/.installed: requirements/homeassistant.txt
	@echo "setting up $(HOMEASSISTANT) with Home Assistant (300 MB, a minute or two, once)"
	@rm -rf $(HOMEASSISTANT)
	@$(PYTHON313) -m venv $(HOMEASSISTANT)
	@$(HOMEASSISTANT)/bin/python -m pip install --quiet --require-hashes -r requirements/homeassistant.txt
	@touch $@

# Spark needs Java 17; docs/scale.md has the last result. It has no wheel, and is built by the setuptools that is there.
SPARK := .venv-spark
test-spark: $(SPARK)/.installed
	$(SPARK)/bin/pytest tests/separate/test_spark.py

$(SPARK)/.installed: requirements/development.txt requirements/cpu.txt requirements/spark.txt pyproject.toml
	@java -version 2>/dev/null || { echo "Spark needs Java: apt-get install openjdk-17-jre-headless"; exit 1; }
	@echo "setting up $(SPARK) with Spark (900 MB, a minute or two, once)"
	@rm -rf $(SPARK)
	@$(PYTHON) -m venv $(SPARK)
	@$(SPARK)/bin/python -m pip install --quiet --require-hashes -r requirements/development.txt -r requirements/cpu.txt
	@$(SPARK)/bin/python -m pip install --quiet --require-hashes --no-build-isolation -r requirements/spark.txt
	@$(SPARK)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Those that start processes and wait for nothing but their end: they compute. The others have a broker and an agent.
PATIENT_TESTS := tests/packaging $(addprefix tests/integration/,test_backfill.py test_calibrate.py test_custom_ops.py test_custom_ops_pack.py \
  test_data_options.py test_edgetool.py test_engines.py test_evaluate.py test_evaluate_config.py test_evidence.py test_export.py \
  test_export_boosted.py test_export_lightgbm.py test_export_opset.py test_export_pyod.py test_export_torch.py \
  test_export_torch_batch.py test_export_torch_given.py test_export_torch_refused.py test_export_wrapped.py \
  test_export_xgboost.py test_fitted_scaler.py test_float16_library.py test_heads.py test_model_commands.py test_models.py \
  test_next_steps.py test_orders.py test_other_peoples_models.py test_pack.py test_pack_data.py test_parity.py test_pieces.py \
  test_portability.py test_raised_opset.py test_scaling.py test_score_options.py test_signing.py \
  test_score_progress.py test_shown.py test_sklearn.py test_workbench.py test_zoo.py)
BROKER_TESTS := $(filter-out $(PATIENT_TESTS),$(wildcard tests/integration/test_*.py)) tests/faults

test: check test-unit $(TORCH)
	@tools/ensure.sh mosquitto chromium prometheus nginx compiler systemd-analyze
	$(BIN)/pytest -n auto --dist loadgroup $(PATIENT_TESTS)
	@[ "$$CI" != true ] || PYTHON=$(BIN)/python tools/ensure_broker.sh rabbitmq
	@# A machine that boots and an agent behind a broker wait more than they compute. What asks how long something takes runs alone.
	$(BIN)/pytest -n 4 --dist loadgroup -m 'not alone' tests/booted $(BROKER_TESTS)
	$(BIN)/pytest -m alone $(BROKER_TESTS)

# Programs that npm and Debian have and that `make test` does without; docs/integrations has the last result.
neighbours: $(STAMP)
	@# Whoever asks for these tests wants no skips.
	@CI=true tools/ensure.sh mosquitto influxdb
	@tools/ensure_node_red.sh
	$(BIN)/pytest tests/separate/test_node_red.py

# The short form is in `make test`.
systemd: $(STAMP)
	BOOTED=full $(BIN)/pytest tests/booted

# All rows of the full form go into the table of docs/reliability.md; a row alone replaces its line there.
# With BROKER=rabbitmq (or activemq, nats, aedes, rumqttd, amqtt) only the rows behind that broker run, and keep the others.
ROWS ?=
RECORD := build/faults.jsonl
ifneq ($(BROKER),auto)
faults: ROWS := killed_behind_a_broker
endif
faults: $(STAMP)
	@tools/ensure.sh mosquitto
	@[ "$(BROKER)" = auto ] || PYTHON=$(BIN)/python tools/ensure_broker.sh $(BROKER)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/fuzz.txt \
	  || echo "atheris cannot be installed here: the fuzzing is random"
	@rm -f $(RECORD)
	@$(BIN)/pytest tests/faults --full --record $(RECORD) $(if $(ROWS),-k '$(ROWS)') \
	    $(if $(filter-out auto,$(BROKER)),--broker $(BROKER)); status=$$?; \
	  $(BIN)/python tests/faults/table.py $(RECORD) docs/reliability.md $(if $(ROWS),--keep); exit $$status

bench: $(STAMP)
	@tools/ensure.sh mosquitto
	$(BIN)/python tools/benchmarks/agent_cpu.py --turns 2
	$(BIN)/python tools/benchmarks/agent_throughput.py --readings 50001 --turns 2
	$(BIN)/python tools/benchmarks/agent_latency.py --turns 2
	$(BIN)/python tools/benchmarks/agent_idle.py
	$(BIN)/python tools/benchmarks/score_file.py --turns 5
	$(BIN)/python tools/benchmarks/many_assets.py --turns 1
	$(BIN)/python tools/benchmarks/stages.py

# For every Python and platform at once, and without an index, so that the files hold only names, versions and hashes.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
EXTRAS := --extra host --extra files --extra dashboard --extra scale --extra reports --extra signing --extra sklearn --extra lightgbm --extra pyod
lock:
	@$(BIN)/$(LOCK) $(EXTRAS) --extra demo --group dev -o requirements/development.txt pyproject.toml
	@for extra in cpu openvino modbus opcua metrics trust; do \
	  $(BIN)/$(LOCK) -c requirements/development.txt --extra $$extra -o requirements/$$extra.txt pyproject.toml || exit 1; \
	done
	@$(BIN)/$(LOCK) -c requirements/development.txt --group fuzz -o requirements/fuzz.txt pyproject.toml
	@$(BIN)/$(LOCK) --group peers -o requirements/peers.txt
	@# PyTorch for Windows needs nothing of CUDA, so that is what its build for CPUs needs anywhere.
	@$(BIN)/$(subst --universal,--python-platform x86_64-pc-windows-msvc,$(LOCK)) -c requirements/development.txt --extra torch --group torch \
	  --no-emit-package torch -o requirements/torch.txt pyproject.toml
	@$(BIN)/$(LOCK) -c requirements/development.txt --extra torch --group torch -o requirements/torch-cuda.txt pyproject.toml
	@$(BIN)/$(LOCK) -c requirements/development.txt --extra tensorflow -o requirements/tensorflow.txt pyproject.toml
	@printf 'homeassistant==2025.4.4\npaho-mqtt==2.1.0\n' | $(BIN)/$(subst --python-version 3.11,--python-version 3.13,$(LOCK)) -o requirements/homeassistant.txt -
	@printf 'pyspark==4.3.0\npandas<3\n' | $(BIN)/$(LOCK) -c requirements/development.txt -o requirements/spark.txt -
	@# Anew, because pins that are there already would outlast a bound that is lowered.
	@$(BIN)/$(LOCK) --upgrade --resolution lowest-direct $(EXTRAS) --extra cpu --group test -o requirements/lowest.txt pyproject.toml

clean:
	rm -rf .venv* build dist .mypy_cache .ruff_cache .pytest_cache
