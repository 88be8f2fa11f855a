# Two commands: `make demo` sets everything up and runs the main job; `make test` sets
# everything up and passes the tests. Neither needs the other.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/python examples/demo.py

# Weights and data sets are fetched here, once; no test reads the network.
test: $(READY) lint
	$(BIN)/sqlembed pull all-MiniLM-L6-v2 multilingual-e5-small judge-nli
	$(BIN)/python examples/datasets.py
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Ten minutes. sqlite-lembed and sqlite-ai are compared too where there is a stock sqlite3
# shell (apt-get install sqlite3).
bench: $(READY)
	$(BIN)/python benchmarks/run.py

# llama-cpp-python compiles llama.cpp for this machine's CPU, once: five minutes on two
# cores. Its own flags are the fastest that were measured (ARCHITECTURE.md, "Dependencies").
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	@echo "Installing; llama.cpp is compiled the first time, which takes some minutes."
	$(BIN)/python -m pip install -qq --editable ".[test,onnx]"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
