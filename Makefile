# make demo   set up .venv, then run the main job end to end (no GPU, no account, no network
#             beyond the package registry)
# make test   set up .venv, then run every check and test
# make check  lint and types
# make unit   what needs neither Ray nor a service
#
# torch comes first, at a version whose build for this machine is known: a plain range would pull
# the newest one with gigabytes of CUDA. For another build: make demo TORCH='torch==2.12.*'
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq # twice quiet: errors, no remarks on indexes

.PHONY: demo test check unit install clean

demo: install
	$(BIN)/python pipelines/demo.py

test: install check
	$(BIN)/python -m pytest

unit: install
	$(BIN)/python -m pytest --ignore tests/integration

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing $(TORCH) and what else is needed: minutes, some 2 GB"
	$(PIP) --upgrade pip
	$(PIP) $(TORCH)
	$(PIP) -e '.[pipeline,dev]'
	touch $@

clean:
	rm -rf $(VENV) out mlflow.db mlartifacts
