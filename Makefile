# One target per thing a user does; `make` alone lists them.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
export WANDB_SILENT ?= true

.DEFAULT_GOAL := help
.PHONY: help install test test-slow check

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):[^#]*## (.*)/  \1|\2/' | column -t -s '|'

install: $(VENV)/.installed  ## make .venv with the tested versions

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: install  ## the tests (under 10 minutes on 2 cores)
	$(PY) -m pytest

test-slow: install  ## the slow tests too
	$(PY) -m pytest -m 'slow or not slow'

check: install  ## lint, types, tests
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest
