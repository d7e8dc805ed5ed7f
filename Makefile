# One target per thing a user does; `make` alone lists them.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
LUS := $(PY) -m lus_lightning
# One process a core, each test file in one of them: its fixtures are made once.
PYTEST := $(PY) -m pytest -n auto --dist loadfile

# What reproduce-, quick-, report- and sweep- targets take:
DATA ?=
TEST_DATA ?=
RUN ?=
RECIPE ?= auto
ARGS ?=
FOLDS ?=
LOCAL ?=
TRIALS ?=
REPRODUCE = $(LUS) reproduce $(if $(DATA),--data='$(DATA)') $(if $(TEST_DATA),--test_data='$(TEST_DATA)') $(if $(RUN),--run='$(RUN)') $(if $(FOLDS),--folds=$(FOLDS)) $(if $(ARGS),--args='$(ARGS)')

.DEFAULT_GOAL := help
.PHONY: help install test test-shipped test-slow check bench
.SECONDARY:

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):[^#]*## (.*)/  \1|\2/' | column -t -s '|'
	@echo
	@echo '  variables: DATA=folder or URL of clips (none: simulated)   TEST_DATA=another folder to test on   RUN=name of the run folder'
	@echo '             RECIPE=paper|quick (default: paper on a GPU, else quick)   FOLDS=5 (cross-validation)   ARGS="further options of fit"   LOCAL=1, TRIALS=20 (sweeps)'

install: $(VENV)/.installed  ## make .venv with the tested versions

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce-%: install  ## fit, test and report a paper's recipe: reproduce-xing
	$(REPRODUCE) $* --size $(RECIPE)

quick-%: install  ## the same with the quick recipe, for two CPU cores
	$(REPRODUCE) $* --size quick

report-%: install  ## write a run's report again: report-xing reads runs/xing
	$(LUS) report 'runs/$(or $(RUN),$*)'

sweep-%: install  ## a W&B sweep, or with LOCAL=1 the same file here: sweep-xing
	$(LUS) sweep experiments/sweeps/$*.yaml $(if $(LOCAL),--local) $(if $(TRIALS),--trials=$(TRIALS)) $(if $(DATA),--root='$(DATA)') $(if $(RUN),--run 'runs/$(RUN)') $(if $(ARGS),--args='$(ARGS)')

test: install  ## the tests (under 10 minutes on 2 cores)
	$(PYTEST)

test-shipped: install  ## what README and docs tell to type, as it ships, and Lightning's options (under 20 minutes on 2 cores)
	$(PY) -m pytest -n auto --dist loadscope -m shipped

test-slow: install  ## the slow tests too
	$(PYTEST) -m 'not shipped'

check: install  ## lint, types, tests
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PYTEST)

bench: install  ## speed, each measure beside a peer or a limit
	for script in benchmarks/*.py; do $(PY) $$script $(DATA); done
