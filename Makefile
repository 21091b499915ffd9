# Set-up, tests and checks. `make` alone lists what there is. Nothing here needs root or touches anything outside
# this folder.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Which python makes .venv; which lock goes into it (cpu or cuda); anything more for pip, such as an index.
PYTHON ?= python3.11
LOCK ?= cpu
PIP_ARGS ?=

BIN := .venv/bin
PACKAGES := .venv/.packages-$(LOCK)
READY := .venv/.ready-$(LOCK)

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 180

.PHONY: help setup demo drill stack stack-down results leaderboards picture bench-cf bench-data bench-recipes bench-serve bench-train test test-all check fmt lint-docker clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv from the lock (LOCK=cpu or cuda) and check that it works

# Each stamp is made last, so a set-up that was cut short starts again. A changed lock empties .venv: what an older
# lock left behind (the other fbgemm build, say) must not linger.
$(PACKAGES): requirements/$(LOCK).txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "make setup needs Python 3.11 and '$(PYTHON)' is not one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --no-deps $(PIP_ARGS) -r requirements/$(LOCK).txt
	$(BIN)/python -m pip install --no-deps $(PIP_ARGS) -r requirements/dev.txt
	@touch $@

$(READY): $(PACKAGES) pyproject.toml
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	$(BIN)/recdistill doctor --quick
	@touch $@

demo: setup ## Make a log, distil a student from a teacher, report: runs/demo
	$(BIN)/recdistill synth runs/demo-log
	$(BIN)/recdistill run configs/demo.yaml

test: setup ## The fast tests
	$(BIN)/pytest -q -n 2 --dist loadfile

test-all: setup ## The slow tests too
	$(BIN)/pytest -q -m "not gpu"

check: setup ## Lint, layout, types, locks; says all that is wrong, not the first only
	@failed=""; \
	for step in "ruff check ." "ruff format --check ." "mypy" "python requirements/lock.py --check"; do \
	  echo "+ $$step"; $(BIN)/$$step || failed="$$failed; $$step"; \
	done; \
	[ -z "$$failed" ] || { echo "failed: $${failed#; }" >&2; exit 1; }

bench-cf: setup ## Speed and memory of training and full ranking on pairs, as one JSON line (a minute)
	$(BIN)/python benchmarks/cf.py

bench-data: setup ## Speed and memory of the data path, as one JSON line (minutes; FUXICTR=DIR compares)
	$(BIN)/python benchmarks/data.py

bench-train: setup ## Speed and memory of training the teacher, as one JSON line (minutes; FUXICTR=DIR compares)
	$(BIN)/python benchmarks/train.py

bench-recipes: setup ## What each recipe adds to the training of a student, as one JSON line (many minutes; CONFIG=FILE RECIPES=a,b)
	$(if $(CONFIG),,$(BIN)/recdistill synth runs/demo-log)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/recipes.py $(or $(CONFIG),configs/demo.yaml) $(RECIPES)

bench-serve: setup ## Speed of the scorer, the server and score-file, as one JSON line (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/serve.py

drill: setup ## A week of retraining with all that goes wrong in one, as a table (minutes; CONFIG=FILE)
	$(BIN)/python benchmarks/drill.py $(or $(CONFIG),configs/drill.yaml)

results: setup ## Run demo and ml-1m from scratch and write docs/results.md from them
	$(BIN)/recdistill synth runs/demo-log
	$(BIN)/python benchmarks/results.py configs/demo.yaml configs/ml-1m.yaml

leaderboards: setup ## Bring what the pages of docs/leaderboards come to into docs/results.md
	$(BIN)/python benchmarks/results.py --keep configs/demo.yaml configs/ml-1m.yaml

picture: setup ## docs/report.png: the page of a run that faces a champion, in a headless Chromium
	rm -rf runs/picture
	$(BIN)/recdistill synth runs/picture/log --rows 60000 --users 800 --items 300 --days 12
	for end in 2026-01-12 2026-01-13; do \
	  $(BIN)/recdistill run configs/demo.yaml name=picture root=runs/picture/run data.source=runs/picture/log data.end=$$end \
	    student.seeds=2 'gates.slices=[new_users,tail,country]' registry.tracking_uri=sqlite:///runs/picture/mlflow.db \
	    registry.artifacts=runs/picture/artifacts || [ $$? = 1 ] || exit; \
	done
	$(BIN)/python tests/browser.py runs/picture/run/report.html docs/report.png

fmt: setup ## Lay out the code, mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stack: setup ## Prefect, MLflow and a worker on this machine, on loopback; their state in runs/stack
	$(BIN)/recdistill stack up

stack-down: setup ## Stop them; nothing is lost
	$(BIN)/recdistill stack down

lint-docker: setup ## hadolint on the Dockerfile
	$(BIN)/hadolint Dockerfile

clean: ## Remove .venv, caches and build leftovers; runs/ and mlruns/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
