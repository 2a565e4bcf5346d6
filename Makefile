PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
EMBEDDED := digits digits_binary digits_dequantized tones moving_digits
# Three on two cores, since many tests wait for other processes.
TEST_WORKERS ?= 3
IN_PARALLEL := -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
QUICK := tests/structure tests/arcore/properties tests/pipeline/core tests/pipeline/experiments \
  tests/stages/test_cli.py tests/stages/test_command_lines.py tests/test_readme.py
TARGETS ?= $(foreach dataset,$(EMBEDDED),report@$(dataset) register@$(dataset))
SHOWN := $(patsubst report@%,%,$(filter report@%,$(TARGETS)))
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export RAY_USAGE_STATS_ENABLED := 0
# Stages, tests and Ray's workers are some hundred starts of Python: what one compiles serves the next.
unexport PYTHONDONTWRITEBYTECODE

VERSION = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard $(VENV)/bin/python),)
ifneq ($(call VERSION,$(PYTHON)),$(call VERSION,$(VENV)/bin/python))
$(error PYTHON: expected the version in $(VENV), $(call VERSION,$(VENV)/bin/python), got $(PYTHON); remove $(VENV) to change it)
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install repro reproductions locked test test-quick test-processors test-slow test-browser test-cluster lint format docs ui submit bench results tables audit manifests lock image-lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

# Two halves of the complete list at once, which needs no resolving; bytecode is compiled at first use.
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON): expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1); set PYTHON=..."; exit 1; }
	@echo "installing into $(VENV), one to two minutes"
	$(PYTHON) -m venv $(VENV)
	@awk '{ print > ("$(VENV)/half." NR % 2 ".txt") }' constraints.txt
	@$(PIP) --no-deps -r $(VENV)/half.0.txt & first=$$!; \
	  $(PIP) --no-deps -r $(VENV)/half.1.txt; code=$$?; wait $$first && exit $$code
	$(PIP) -c constraints.txt -e .
	@mkdir -p .dvc/site-cache/repo && chmod 700 .dvc/site-cache .dvc/site-cache/repo
	@touch $@

install: $(STAMP)  ## make .venv with everything in it

repro: $(STAMP)  ## the main job: embedded data to trained, registered models and the tables
	@$(VENV)/bin/python -m stages.repro $(TARGETS)
	@$(if $(SHOWN),$(VENV)/bin/python -m stages.report --show $(SHOWN))

locked: $(STAMP)  ## which stages of the main job dvc.lock is out of step with
	@$(VENV)/bin/python -m stages.code --locked $(TARGETS)

reproductions: $(STAMP)  ## what results/ was measured with, hours: published datasets, stand-ins, searches, studies
	@$(VENV)/bin/python -m reproductions.estimate
	$(VENV)/bin/python -m reproductions.reproduce

test: $(STAMP)  ## the default tests, in TEST_WORKERS processes
	$(VENV)/bin/python -m pytest $(IN_PARALLEL)

test-quick: $(STAMP)  ## between two edits: structure, the first case of each property, command lines
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) --first-cases $(QUICK)

# What torch, oneDNN and MKL may use at most, for the processors that lack more.
lowered = ATEN_CPU_CAPABILITY=$(1) ONEDNN_MAX_CPU_ISA=$(2) MKL_ENABLE_INSTRUCTIONS=$(3) \
  $(VENV)/bin/python -m pytest $(IN_PARALLEL) $(NUMBERS)
NUMBERS := tests/arcore tests/reproductions/test_kept_weights.py

test-processors: $(STAMP)  ## the models' tests and golden numbers as on processors with AVX2 and with SSE4 alone
	$(call lowered,avx2,AVX2,AVX2)
	$(call lowered,default,SSE41,SSE4_2)

test-slow: $(STAMP)  ## the longer tests
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) -m 'slow and not own_process and not cluster and not browser'

test-browser: $(STAMP)  ## report pages in Chromium
	$(VENV)/bin/python -m pytest -m browser tests

test-cluster: $(STAMP)  ## training, jobs and faults on several hosts made of network namespaces
	$(VENV)/bin/python -m pytest -m cluster tests/cluster

lint: $(STAMP)  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)  ## fix what ruff can fix
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

ui: $(STAMP)  ## MLflow on http://127.0.0.1:5000, and the addresses of each dataset's runs
	@$(VENV)/bin/python -m stages.ui

submit: $(STAMP)  ## a job on a Ray cluster: STAGE=train EXPERIMENT=..., TARGET=evaluate@..., or RUN='...'; SUBMIT='--env ...'
	@$(if $(STAGE)$(TARGET)$(RUN),true,echo "error: expected STAGE and EXPERIMENT or TARGET or RUN"; exit 1)
	@$(VENV)/bin/python -m stages.submit $(SUBMIT) -- $(or $(RUN),$(if $(TARGET),dvc repro $(TARGET),python -m stages.$(STAGE) $(EXPERIMENT)))

docs: $(STAMP)  ## the documentation site, site/index.html; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bench: $(STAMP)  ## training speed against common implementations, sampling, the loader, overheads
	$(VENV)/bin/python benchmarks/training_speed.py
	$(VENV)/bin/python benchmarks/sampling.py
	$(VENV)/bin/python benchmarks/wavenet.py
	$(VENV)/bin/python benchmarks/loading.py
	$(VENV)/bin/python benchmarks/overheads.py

results: $(STAMP)  ## keep what is measured: copy the records of EXPERIMENTS, FOLDS, SEARCHES, STUDIES, DATASETS and EMBEDDED_DATA, and the pictures of GALLERY, to results/
	@$(VENV)/bin/python -m reproductions.results --experiments $(EXPERIMENTS) --folds $(FOLDS) --searches $(SEARCHES) --studies $(STUDIES) --datasets $(DATASETS) --embedded $(EMBEDDED_DATA) --gallery $(GALLERY) --tables

tables: $(STAMP)  ## draw every table of README, docs and results/ from the records
	@$(VENV)/bin/python -m reproductions.results --tables

audit: $(STAMP)  ## known vulnerabilities of constraints.txt, as pip-audit's source (ADVISORIES=pypi or osv) has them
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	  $(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	@$(VENV)/audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip --progress-spinner off -f json \
	  -s $(or $(ADVISORIES),pypi) | $(VENV)/bin/python .ci/audit.py

manifests: $(STAMP)  ## validate deploy/ by kubeconform, if it is installed, and by KubeRay's definitions, if CRDS is their folder
	@if command -v kubeconform >/dev/null; \
	  then kubeconform -strict -summary -ignore-missing-schemas deploy/kuberay deploy/mlflow/kubernetes.yaml; \
	  else echo "manifests: no kubeconform here, so Kubernetes' own schemas are not tried"; fi
	@$(if $(CRDS),$(VENV)/bin/python .ci/manifests.py $(CRDS),echo "manifests: no CRDS=..., so KubeRay's definitions are not tried")

lock: $(STAMP)  ## write constraints.txt: what is installed, and what pyproject.toml asks for besides
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,benchmarks,docs]'
	@$(VENV)/bin/python -m pip freeze --exclude-editable > constraints.all
	@{ echo '# The stack that the tests ran with (all but torch, a range in pyproject.toml). Made by `make lock`.'; \
	  grep -viE '^(torch|nvidia[^=]*|triton|setuptools|pip|wheel)==' constraints.all; } > constraints.tmp
	@rm constraints.all && mv constraints.tmp constraints.txt && touch $(STAMP)

image-lock:  ## write deploy/requirements.lock, with hashes, from constraints.txt and pyproject.toml
	@test -x $(VENV)/lock/bin/uv || { $(PYTHON) -m venv $(VENV)/lock && \
	  $(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9; }
	@grep -v '^boto' constraints.txt | $(VENV)/lock/bin/uv pip compile --quiet --config-file deploy/uv.toml \
	  --constraint - --output-file deploy/requirements.lock pyproject.toml deploy/requirements.in

clean:  ## remove outputs and what unfinished trainings go on from, not data, caches or the MLflow store
	rm -rf models mixtures evaluation metrics curves codecs reports registry searches studies .arcore
