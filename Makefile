# Goldtrace's commands. `make` alone prints them. The first use of a command sets up .venv (scripts/set_up.sh);
# after that the set-up costs milliseconds and no network. Works with GNU make 3.81 and later.
#
#   make run PIPELINE_INPUT=my/folder          settings are PIPELINE_* (docs/settings.md), here or in the environment
#   make test ARGS="-k gate"                   ARGS goes to the command behind the target
#   make run PIPELINE_PYTHON=python3.12        the interpreter that .venv is made from

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
BIN := .venv/bin
PIN = pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(ARGS)

##@ Use it

.PHONY: run
run: setup.run ## Run the study on the shipped sample, or on the folder PIPELINE_INPUT
	@$(BIN)/pipeline run $(ARGS)

.PHONY: quality
quality: setup.run ## Great Expectations over the lake, with Data Docs
	@$(BIN)/pipeline quality $(ARGS)

.PHONY: notebooks
notebooks: setup.dev ## Open the notebooks in Jupyter
	@$(BIN)/jupyter lab notebooks $(ARGS)

.PHONY: synth
synth: setup.run ## Make synthetic data: ARGS="--subjects 100 --weeks 52 --seed 1 --out data"
	@$(BIN)/pipeline synth $(ARGS)

##@ Watch it

.PHONY: obs.up
obs.up: setup.run ## Start the stack: Grafana, Prometheus, Alertmanager, Loki, Jaeger, Marquez (docs/stack.md)
	@$(BIN)/pipeline stack up $(ARGS)

.PHONY: obs.down
obs.down: setup.run ## Stop it, and MLflow with it; what they have stored is kept
	@$(BIN)/pipeline stack down $(ARGS)

.PHONY: obs.reset
obs.reset: setup.run ## Stop all and delete what is stored there, after a question (ARGS=--yes: without)
	@$(BIN)/pipeline stack reset $(ARGS)

.PHONY: obs.status
obs.status: setup.run ## Each service: state, health, ports, memory
	@$(BIN)/pipeline stack status $(ARGS)

.PHONY: obs.logs
obs.logs: setup.run ## The services' logs: ARGS="collector --follow"
	@$(BIN)/pipeline stack logs $(ARGS)

.PHONY: demo
demo: setup.run ## Two weeks of dated runs, one failed and one RED, so that there is something to see (docs/demo.md)
	@$(BIN)/pipeline demo $(ARGS)

.PHONY: lineage.up
lineage.up: setup.run ## Start Marquez alone
	@$(BIN)/pipeline stack up --part lineage $(ARGS)

.PHONY: lineage.down
lineage.down: setup.run ## Stop Marquez alone; what it has stored is kept
	@$(BIN)/pipeline stack down --part lineage $(ARGS)

.PHONY: mlflow.up
mlflow.up: setup.run ## Start MLflow, on an S3 and a DynamoDB of its own
	@$(BIN)/pipeline stack up --part mlflow $(ARGS)

.PHONY: mlflow.down
mlflow.down: setup.run ## Stop it; its runs and models are kept
	@$(BIN)/pipeline stack down --part mlflow $(ARGS)

##@ Change it

.PHONY: test
test: setup.dev ## All tests that need no container engine
	@$(BIN)/pytest $(ARGS)

.PHONY: test.stack
test.stack: setup.dev ## The tests that need a container engine: a whole stack is started, and stopped again
	@$(BIN)/pytest tests/stack_live -m stack -n 0 --timeout 600 $(ARGS)

.PHONY: test.diff
test.diff: setup.dev ## 2,000 drawn sequences of calls on MLflow's store in DynamoDB and on its SQL store (15 minutes)
	@GOLDTRACE_DIFF_SEQUENCES=2000 $(BIN)/pytest tests/tracking_dynamodb -m slow -k "many_sequences and Local" -n 2 -rP --timeout 7200 $(ARGS)

.PHONY: check
check: check.format check.lint check.types check.imports check.docs check.stack ## Format, lint, types, layers, generated documents and dashboards

.PHONY: check.format
check.format: setup.dev
	@$(BIN)/ruff format --check --quiet .

.PHONY: check.lint
check.lint: setup.dev
	@$(BIN)/ruff check --quiet .

.PHONY: check.types
check.types: setup.dev
	@$(BIN)/mypy

.PHONY: check.imports
check.imports: setup.dev
	@$(BIN)/lint-imports

.PHONY: check.docs
check.docs: setup.dev
	@$(BIN)/python scripts/generate_docs.py --check

.PHONY: check.stack
check.stack: setup.dev
	@$(BIN)/pipeline stack build --check

.PHONY: fmt
fmt: setup.dev ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

.PHONY: docs
docs: setup.dev ## Write the documents, dashboards and rules that are generated from the code
	@$(BIN)/python scripts/generate_docs.py
	@$(BIN)/pipeline stack build

.PHONY: bench
bench: setup.dev ## Measure speed and memory (docs/performance.md)
	@$(BIN)/python -m bench $(ARGS)

##@ Set up

.PHONY: setup
setup: setup.dev ## Only make .venv, with the developers' tools

.PHONY: setup.aws
setup.aws: ## Add what S3 and DynamoDB need to .venv (docs/aws.md)
	@sh scripts/set_up.sh aws

.PHONY: setup.run
setup.run:
	@sh scripts/set_up.sh run

.PHONY: setup.dev
setup.dev:
	@sh scripts/set_up.sh dev

.PHONY: requirements
requirements: setup.dev ## Pin the requirements again after a change in pyproject.toml (ARGS=--upgrade: the newest; needs uv)
	@uv=$$(command -v uv || echo $(BIN)/uv) && \
	"$$uv" $(PIN) pyproject.toml requirements/build.in --extra aws -o requirements/aws.txt && \
	"$$uv" $(PIN) pyproject.toml requirements/build.in -c requirements/aws.txt -o requirements/run.txt && \
	"$$uv" $(PIN) requirements/mlflow.in requirements/build.in -c requirements/aws.txt -o requirements/mlflow.txt && \
	"$$uv" $(PIN) pyproject.toml requirements/build.in --extra aws --extra notebooks --group dev -c requirements/aws.txt -o requirements/dev.txt && \
	"$$uv" $(PIN) requirements/bootstrap.in -o requirements/bootstrap.txt

.PHONY: clean
clean: ## Remove .venv, caches and build products; the lake and the runs stay
	@rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	@find pipeline tests scripts bench notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [ARGS=...] [PIPELINE_...=...]" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-zA-Z_.-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
