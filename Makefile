# `make help` lists what can be made. Every target creates or refreshes .venv first where it needs it.
PYTHON ?= python3
PROFILE ?= laptop
SEEDS ?=
STAGE ?=
SCOPE ?=
PRECISION ?=
CORES ?=
QUICK ?=

ifneq ($(PRECISION),)
export MASKINV_PRECISION := $(PRECISION)
endif

PYTHON_IN_VENV := .venv/bin/python
SCOPE_OPTION = $(if $(SCOPE),--scope $(SCOPE))
STUDY_OPTIONS = --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CORES),--cores $(CORES)) $(SCOPE_OPTION)

.PHONY: help study choose test bench lab publish models restore lint wheels
.DEFAULT_GOAL := help

help: ## List the targets.
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10
	@echo "Variables: PROFILE=laptop|desk|smoke|real|real-smoke, SEEDS=5 (laptop: 1), STAGE=maskinv-lg (publish, restore), SCOPE=ablation|all,"
	@echo "Variables: PRECISION=fp32|bf16 (auto: bf16 where the processor computes in it), CORES=2 (all), QUICK=1 (bench)"

.venv/ready: pyproject.toml constraints.txt
	@echo "Setting up .venv (once) ..."
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@"$(PYTHON)" -m venv .venv
	@"$(PYTHON_IN_VENV)" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	@"$(PYTHON_IN_VENV)" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

study: .venv/ready ## Run the ablation: PROFILE, SEEDS; SCOPE=all runs all other methods too.
	@"$(PYTHON_IN_VENV)" -m maskinv_lib study $(STUDY_OPTIONS)

choose: .venv/ready ## Choose the settings of PROFILE on validation people; commit what it writes.
	@"$(PYTHON_IN_VENV)" -m maskinv_lib choose --profile $(PROFILE) $(if $(CORES),--cores $(CORES)) $(SCOPE_OPTION)

test: .venv/ready ## Run all tests.
	@"$(PYTHON_IN_VENV)" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

bench: .venv/ready ## Measure the speed here against plain code; QUICK=1: two minutes, not ten.
	@"$(PYTHON_IN_VENV)" -m maskinv_lib bench $(if $(QUICK),--quick)

lab: .venv/ready ## Open the notebooks in JupyterLab.
	@"$(PYTHON_IN_VENV)" -m jupyterlab notebooks

publish: .venv/ready ## Copy a finished study, or one STAGE, from runs/ to results/.
	@"$(PYTHON_IN_VENV)" -m maskinv_lib publish --profile $(PROFILE) $(if $(STAGE),--stage $(STAGE)) $(SCOPE_OPTION)

models: .venv/ready ## Write the weights of a finished study of rendered people, seed 0, to results/models.
	@"$(PYTHON_IN_VENV)" -m maskinv_lib publish-models --profile $(PROFILE)

restore: .venv/ready ## Put published stages back into runs/ where their key still matches.
	@"$(PYTHON_IN_VENV)" -m maskinv_lib restore --profile $(PROFILE) $(if $(STAGE),--stage $(STAGE)) $(SCOPE_OPTION)

lint: .venv/ready ## Check style.
	@"$(PYTHON_IN_VENV)" -m ruff check . && "$(PYTHON_IN_VENV)" -m ruff format --check .

wheels: .venv/ready ## List the pinned versions without a wheel for a Python and a platform.
	@"$(PYTHON_IN_VENV)" workflow/wheels.py
