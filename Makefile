# Two commands: `make demo` sets everything up and runs the main job; `make test` sets
# everything up and passes the tests. Neither needs the other.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
HOSTS := .venv-hosts
SERVERS := .venv-servers
REFERENCES := .venv-references
EXTENSION := sqlembed/extension/sqlembed.so

.PHONY: demo test prove fuzz crash lint bench quality clean

demo: $(READY) $(EXTENSION)
	$(BIN)/python examples/demo.py

# Weights and data sets are fetched here, once; no test reads the network.
test: $(READY) $(EXTENSION) $(HOSTS)/.ready $(SERVERS)/.ready $(REFERENCES)/.ready lint
	@.ci/debian gcc 'gcc --version' valgrind 'valgrind --version'
	$(BIN)/sqlembed pull all-MiniLM-L6-v2 multilingual-e5-small judge-nli glove-6b-50d \
	    SmolLM2-135M-Instruct
	$(BIN)/python examples/datasets.py
	$(BIN)/python -m pytest --numprocesses auto

# Longer than in `make test`, which has tiny models: real weights against their references, over a
# thousand real texts each.
prove: $(READY) $(REFERENCES)/.ready
	$(BIN)/sqlembed pull all-MiniLM-L6-v2 multilingual-e5-small judge-nli
	$(BIN)/python examples/datasets.py
	PYTHONPATH=examples $(BIN)/python tests/prove/figures.py
	PYTHONPATH=examples $(BIN)/python tests/prove/real.py

# Longer than in `make test`: both sides of the protocol read what makes no sense.
FUZZ_SECONDS ?= 300
fuzz: $(READY)
	@.ci/debian clang 'clang --version' libclang-rt-dev 'ls $$(clang -print-runtime-dir)/*fuzzer*'
	$(BIN)/python tests/extension/fuzz.py $(FUZZ_SECONDS)
	SQLEMBED_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest tests/extension/test_decoder.py

# As in `make test`, but for an hour: programs are killed at any moment, and every call of the
# disk fails in turn. All that is stored must be right after each.
CRASHES ?= 500
crash: $(READY) $(EXTENSION)
	$(BIN)/python tests/crash/kill.py --kills $(CRASHES)
	$(BIN)/python tests/crash/disk.py
	$(BIN)/python -m pytest tests/crash/test_full.py tests/crash/test_poison.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Some 35 minutes. sqlite-lembed and sqlite-ai are compared too where there is a stock sqlite3
# shell (apt-get install sqlite3).
bench: $(READY) $(EXTENSION)
	$(BIN)/python benchmarks/run.py

# How well search finds; half an hour. Figures do not depend on the machine's speed.
quality: $(READY)
	cd benchmarks && ../$(BIN)/python -m quality.measure

# Without SQLite's headers the package is built without its loadable extension.
HEADERS := .ci/debian libsqlite3-dev 'echo "\#include <sqlite3ext.h>" | cc -E -'

# llama-cpp-python compiles llama.cpp for this machine's CPU, once: five minutes on two
# cores. Its own flags are the fastest that were measured (ARCHITECTURE.md, "Dependencies").
$(READY): pyproject.toml
	@$(HEADERS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	@echo "Installing; llama.cpp is compiled the first time, which takes some minutes."
	$(BIN)/python -m pip install -qq --editable ".[test,onnx]"
	touch $(READY)

# All that is C again, where any of it or the functions that are registered have changed.
$(EXTENSION): setup.py $(wildcard sqlembed/*/*.[ch] sqlembed/functions/*.py) | $(READY)
	@$(HEADERS)
	$(BIN)/python -m pip install -qq --no-build-isolation --no-deps --editable .

# Programs that the loadable extension is tested in. Those of Python are on Debian's, whose sqlite3
# module loads extensions; others, such as pyenv's, are built without that.
$(HOSTS)/.ready: Makefile | $(READY)
	@.ci/debian sqlite3 'sqlite3 -version' libdbd-sqlite3-perl 'perl -MDBD::SQLite -e 1' \
	    curl 'curl --version' \
	    python3 '/usr/bin/python3 -c "import sqlite3; sqlite3.Connection.enable_load_extension"'
	@if /usr/bin/python3 -m venv --without-pip $(HOSTS) && $(BIN)/python -m pip \
	    --python $(HOSTS)/bin/python install -qq "datasette>=0.65,<1" "sqlite-utils>=3.38,<4" \
	    "alembic>=1.16,<2" "django>=5.2,<5.3"; \
	then touch $@; else echo "Datasette, sqlite-utils, Alembic and Django are left out." >&2; fi

# llama.cpp's own server, as xllamacpp ships it: models on a server are tested against it.
$(SERVERS)/.ready: Makefile | $(READY)
	@if $(PYTHON) -m venv --without-pip $(SERVERS) && $(BIN)/python -m pip \
	    --python $(SERVERS)/bin/python install -qq "xllamacpp>=2026.10,<2027"; \
	then touch $@; else echo "llama.cpp's server is left out." >&2; fi

# What models are compared with: transformers and sentence-transformers on torch for CPUs, and
# llama.cpp's own converter. 1.4 GB, one to three minutes.
$(REFERENCES)/.ready: Makefile tests/prove/fetch_converter.py | $(READY)
	@if $(PYTHON) -m venv --without-pip $(REFERENCES) && $(BIN)/python -m pip \
	    --python $(REFERENCES)/bin/python install -qq torch==2.13.0 transformers==5.24.0 \
	    sentence-transformers==6.2.0 sentencepiece==0.2.3 protobuf PyYAML requests \
	    && $(BIN)/python tests/prove/fetch_converter.py $(REFERENCES)/llama.cpp; \
	then $(BIN)/python -m pip --python $(REFERENCES)/bin/python freeze > $@; \
	else echo "Proofs against transformers are left out." >&2; fi

clean:
	rm -rf $(VENV) $(HOSTS) $(SERVERS) $(REFERENCES) fuzz build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
