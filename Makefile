# `make` lists what there is to do.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
PIP := -m pip --disable-pip-version-check install --quiet
ENV := .venv
AUTHORING := .venv-authoring
SCANNERS := .venv-scanners

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(ENV)/run ## tune, train, deploy, scale, wire, test on this machine; ARGS="--data DIR --keep …"
	@$(ENV)/bin/python statemachine/run.py $(ARGS)

.PHONY: down
down: $(ENV)/run ## end the local AWS that `--keep` left up
	@$(ENV)/bin/python statemachine/run.py down

.PHONY: images
images: $(ENV)/run ## build the training and the serving image
	@$(ENV)/bin/python statemachine/run.py images $(ARGS)

.PHONY: test
test: $(ENV)/dev $(AUTHORING)/ready ## pass the tests but those of the images; ARGS="-k name" picks some
	$(ENV)/bin/python -m pytest -m 'not docker' --numprocesses auto --dist loadfile $(ARGS)

.PHONY: test-docker
test-docker: $(ENV)/dev ## pass the tests that need a Docker engine; without one they are skipped and say so
	$(ENV)/bin/python -m pytest -m docker $(ARGS)

.PHONY: check
check: $(ENV)/dev $(SCANNERS)/ready ## format, lint, types, layers, rules, scanners
	$(ENV)/bin/ruff format --check .
	$(ENV)/bin/ruff check .
	$(ENV)/bin/mypy
	$(ENV)/bin/lint-imports
	$(ENV)/bin/python -m kennel.pipeline.rules
	@$(MAKE) --no-print-directory scan

.PHONY: scan
scan: $(SCANNERS)/ready ## let scanners look at the template, its policies, the state machine and the code
	PYTHONPATH=src $(SCANNERS)/bin/python -B statemachine/scan.py

.PHONY: format
format: $(ENV)/dev ## rewrite the code in the one format
	$(ENV)/bin/ruff format .
	$(ENV)/bin/ruff check --fix .

.PHONY: definition
definition: $(AUTHORING)/ready ## render statemachine/pipeline.asl.json
	SAGEMAKER_SUPPRESS_V2_WARNING=1 $(AUTHORING)/bin/python statemachine/definition.py

.PHONY: bench
bench: $(ENV)/dev ## measure `make run` and write benchmarks/pipeline.md
	$(ENV)/bin/python benchmarks/pipeline.py

.PHONY: bench-images
bench-images: $(ENV)/dev ## measure the images (needs a Docker engine) and write benchmarks/images.md
	$(ENV)/bin/python benchmarks/images.py

.PHONY: clean
clean: ## remove environments, caches and all results
	rm -rf $(ENV) $(AUTHORING) $(SCANNERS) .kennel/* .*_cache src/*.egg-info

# Each environment is made once, and again when what it is made from changes.
$(ENV)/run: pyproject.toml constraints.txt
	@echo "Setting up $(ENV), once: a few minutes"
	@test -x $(ENV)/bin/python || $(PYTHON) -m venv $(ENV)
	@# torch first and by its exact version: a range may take another build of it, with gigabytes of CUDA
	@$(ENV)/bin/python $(PIP) --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(ENV)/bin/python $(PIP) --constraint constraints.txt --editable '.[training,serving,local]'
	@touch $@

$(ENV)/dev: $(ENV)/run
	@$(ENV)/bin/python $(PIP) --constraint constraints.txt --editable '.[training,serving,local,dev]'
	@touch $@

$(AUTHORING)/ready: constraints-authoring.txt
	@echo "Setting up $(AUTHORING), once: the stepfunctions SDK and what it needs"
	@test -x $(AUTHORING)/bin/python || $(PYTHON) -m venv $(AUTHORING)
	@$(AUTHORING)/bin/python $(PIP) --requirement constraints-authoring.txt
	@touch $@

$(SCANNERS)/ready: constraints-scanners.txt
	@echo "Setting up $(SCANNERS), once: scanners of templates, policies and code, 600 MB"
	@test -x $(SCANNERS)/bin/python || $(PYTHON) -m venv $(SCANNERS)
	@# Frozen from: bandit cdklabs.cdk-validator-cfnguard cfn-lint checkov cloudformation-validate cloudsplaining parliament.
	@# Without dependencies: all are listed but the CDK, which the package of Guard's rules is made for and we do not use
	@$(SCANNERS)/bin/python $(PIP) --no-deps --requirement constraints-scanners.txt
	@touch $@
